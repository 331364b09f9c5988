"""A pipeline is pickled as its checkpoint's name and settings, copied, saved, evaluated and trained from."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import captioner
from captioner.captioning.batches import _device_errors
from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.errors import CaptionerError, CheckpointError
from captioner.pipelines import CaptionPipeline, load, prepared
from captioner.pipelines.origin import Origin
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data

PRECISIONS = ["fp32", "bf16", "int8"]


@pytest.fixture
def photos(data: Data) -> list[str]:
    return [str(sample.path) for sample in data.train[:3]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_pickled_as_its_source_and_settings(precision: str, learnt: Path, photos: list[str]) -> None:
    pipe = load(learnt, device="cpu", precision=precision)  # type: ignore[arg-type]
    pipe.checkpoint.generation = replace(pipe.checkpoint.generation, max_tokens=3)
    sent = pickle.dumps(pipe)
    assert len(sent) < 5000
    again = pickle.loads(sent)
    assert again.caption(photos) == pipe.caption(photos)
    assert again.checkpoint.generation.max_tokens == 3
    assert again.checkpoint.model.precision == precision
    assert pickle.loads(pickle.dumps(again)).caption(photos) == pipe.caption(photos)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_can_be_copied(precision: str, learnt: Path, photos: list[str]) -> None:
    pipe = load(learnt, device="cpu", precision=precision)  # type: ignore[arg-type]
    said = pipe.caption(photos)
    for made in (copy.deepcopy(pipe), copy.copy(pipe)):
        assert made.caption(photos) == said
    deep = copy.deepcopy(pipe)
    deep.checkpoint.generation = replace(deep.checkpoint.generation, max_tokens=1)
    assert pipe.caption(photos) == said
    assert copy.copy(pipe).checkpoint is pipe.checkpoint
    assert copy.deepcopy(pipe.checkpoint).model is not pipe.checkpoint.model


def test_a_process_pool_captions(learnt: Path, photos: list[str]) -> None:
    """The processes are spawned, like those of joblib and Spark, and share no state.

    Scores may differ in the last digits: another process may lay its tensors out at other addresses.
    """
    pipe = load(learnt, device="cpu", precision="int8")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(pipe.caption, photos).result(timeout=120)
    here = pipe.caption(photos)
    assert [caption.text for caption in there] == [caption.text for caption in here]
    assert [caption.score for caption in there] == pytest.approx([caption.score for caption in here], abs=1e-5)


def test_the_pipeline_of_transformers_goes_along(learnt: Path, photos: list[str]) -> None:
    pipe = captioner.pipeline("image-to-text", model=learnt, device=-1, max_new_tokens=4)
    assert pickle.loads(pickle.dumps(pipe))(photos) == pipe(photos)
    assert copy.deepcopy(pipe)(photos) == pipe(photos)


def test_one_that_is_not_prepared_takes_its_weights_along(checkpoint: Checkpoint, photos: list[str]) -> None:
    """It may have been trained since it was loaded."""
    pipe = CaptionPipeline(checkpoint)
    checkpoint.model.decoder.token_embedding.weight.data.mul_(1.5)
    said = pipe.caption(photos)
    assert pickle.loads(pickle.dumps(pipe)).caption(photos) == said
    assert copy.deepcopy(pipe).caption(photos) == said


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_was_made_in_memory_takes_its_weights_along(
    precision: str, checkpoint: Checkpoint, photos: list[str]
) -> None:
    pipe = prepared(replace(checkpoint, source=""), precision)  # type: ignore[arg-type]
    said = pipe.caption(photos)
    again = pickle.loads(pickle.dumps(pipe))
    assert again.caption(photos) == said
    assert again.checkpoint.model.precision == precision
    assert copy.deepcopy(pipe).caption(photos) == said


def test_a_source_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone is not a checkpoint directory"):
        Origin(source=str(tmp_path / "gone"), device="cpu", precision="fp32").load()


def test_a_gpu_in_a_forked_child_is_one_sentence() -> None:
    said = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use ..."
    with (
        pytest.raises(CaptionerError, match="a forked process cannot use the GPU; start it with 'spawn'"),
        _device_errors(1),
    ):
        raise RuntimeError(said)


Precisions = pytest.mark.parametrize("precision", ["fp32", "int8"])


def of(learnt: Path, precision: str) -> CaptionPipeline:
    pipe = captioner.load(learnt, device="cpu", precision=precision)  # type: ignore[arg-type]
    pipe.checkpoint.generation = replace(pipe.checkpoint.generation, max_tokens=4)
    return pipe


@Precisions
def test_it_is_saved_with_its_original_weights_and_present_options(
    precision: str, learnt: Path, tmp_path: Path
) -> None:
    pipe, wanted = of(learnt, precision), load_checkpoint(learnt).model.state_dict()
    for made in (
        pipe.save(tmp_path / "one"),
        captioner.save(pipe, tmp_path / "two"),
        captioner.save(pipe.checkpoint, tmp_path / "three"),
    ):
        found = load_checkpoint(made)
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
    found = load_checkpoint(train(recipe({"epochs": 1}), data, tmp_path / "out", start=pipe))
    assert found.config == pipe.checkpoint.config
    assert pipe.caption(str(data.train[0].path)) == said
    assert pipe.original().model.train().training
