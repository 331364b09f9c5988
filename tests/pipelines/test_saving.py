"""Evaluation, saving and training of what ``load`` returns, in every precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import captioner
from captioner.checkpoint import load
from captioner.pipelines import CaptionPipeline
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data

Precisions = pytest.mark.parametrize("precision", ["fp32", "int8"])


def of(learnt: Path, precision: str) -> CaptionPipeline:
    pipe = captioner.load(learnt, device="cpu", precision=precision)  # type: ignore[arg-type]
    pipe.checkpoint.generation = replace(pipe.checkpoint.generation, max_tokens=4)
    return pipe


@Precisions
def test_it_is_saved_with_its_original_weights_and_present_options(
    precision: str, learnt: Path, tmp_path: Path
) -> None:
    pipe, wanted = of(learnt, precision), load(learnt).model.state_dict()
    for made in (
        pipe.save(tmp_path / "one"),
        captioner.save(pipe, tmp_path / "two"),
        captioner.save(pipe.checkpoint, tmp_path / "three"),
    ):
        found = load(made)
        assert all(torch.equal(value, wanted[name]) for name, value in found.model.state_dict().items())
        assert found.generation.max_tokens == 4
    assert captioner.load(tmp_path / "one", device="cpu").checkpoint.source == str(tmp_path / "one")


@Precisions
def test_it_is_evaluated_as_it_captions(precision: str, learnt: Path, data: Data) -> None:
    pipe, samples = of(learnt, precision), data.validation
    said = tuple(caption.text for caption in pipe.caption([str(sample.path) for sample in samples]))
    assert pipe.evaluate(samples).captions == said
    assert captioner.evaluate(pipe, samples).captions == said
    assert captioner.evaluate(pipe.checkpoint, samples).captions == said
    shorter = tuple(c.text for c in pipe.caption([str(sample.path) for sample in samples], max_tokens=2))
    assert pipe.evaluate(samples, max_tokens=2).captions == shorter != said


@Precisions
def test_training_goes_on_from_it(
    precision: str, learnt: Path, data: Data, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    pipe = of(learnt, precision)
    said = pipe.caption(str(data.train[0].path))
    found = load(train(recipe({"epochs": 1}), data, tmp_path / "out", start=pipe))
    assert found.config == pipe.checkpoint.config
    assert pipe.caption(str(data.train[0].path)) == said
    assert pipe.original().model.train().training
