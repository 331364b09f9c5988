"""A prepared checkpoint captions; the one it was made from can still be trained and saved."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint import Checkpoint, load, save
from captioner.errors import CheckpointError, UsageError
from captioner.inference import Precision, checkpoint_of, prepare
from captioner.pipelines import CaptionPipeline
from captioner.training.tasks import Data

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
TOKENS = torch.tensor([[[1, 5, 9]]])


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return checkpoint.model(TOKENS, pixels).logits


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_prepared_stays_as_it_is(precision: Precision, checkpoint: Checkpoint, tmp_path: Path) -> None:
    before, state = logits(checkpoint), copy.deepcopy(checkpoint.model.state_dict())
    prepared = prepare(checkpoint, precision)
    assert torch.equal(logits(checkpoint), before)
    assert all(torch.equal(value, state[name]) for name, value in checkpoint.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in checkpoint.model.parameters())
    assert checkpoint.model.train().training
    assert prepared.original().model is checkpoint.model
    assert torch.equal(logits(load(save(prepared, tmp_path / "copy"))), before)


def test_training_the_one_does_not_change_the_other(checkpoint: Checkpoint, data: Data) -> None:
    pipe = CaptionPipeline(prepare(checkpoint, "fp32"))
    photos = [str(sample.path) for sample in data.train[:3]]
    said = pipe.caption(photos)
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.normal_()
    assert pipe.caption(photos) == said


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_were_let_go_come_back_from_the_source(precision: Precision, learnt: Path, tmp_path: Path) -> None:
    checkpoint = load(learnt)
    before = logits(checkpoint)
    prepared = prepare(checkpoint, precision, keep=False)
    assert not list(checkpoint.model.parameters())  # no second copy in memory
    prepared.generation = replace(prepared.generation, beams=3)
    again = prepared.original()
    assert torch.equal(logits(again), before)
    assert again.generation.beams == 3
    found = load(save(prepared, tmp_path / "copy"))
    assert torch.equal(logits(found), before)
    assert found.generation.beams == 3


def test_another_captioner_of_that_name_is_not_saved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    place = save(checkpoint, tmp_path / "place")
    prepared = prepare(load(place), "int8", keep=False)
    save(checkpoint, place)  # the same weights in another file
    assert torch.equal(logits(prepared.original()), logits(checkpoint))
    with torch.no_grad():
        checkpoint.model.decoder.token_embedding.weight[-1, -1] += 1e-6
    save(checkpoint, place)
    with pytest.raises(CheckpointError, match=r"place holds other weights than this captioner was made from; load it"):
        save(prepared, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_weights_that_exist_nowhere_are_one_sentence(checkpoint: Checkpoint, tmp_path: Path) -> None:
    prepared = prepare(replace(checkpoint, source=""), "fp32", keep=False)
    with pytest.raises(
        CheckpointError, match="has lost its original weights, and no checkpoint holds them; prepare it with keep=True"
    ):
        save(prepared, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_unknown_precision_is_one_sentence_and_changes_nothing(checkpoint: Checkpoint) -> None:
    before = logits(checkpoint)
    with pytest.raises(UsageError, match="unknown precision 'fp8'; choose one of fp32, bf16, int8"):
        prepare(checkpoint, "fp8", keep=False)  # type: ignore[arg-type]
    assert torch.equal(logits(checkpoint), before)


def test_a_pipeline_holds_its_checkpoint(checkpoint: Checkpoint) -> None:
    prepared = prepare(checkpoint, "fp32")
    assert checkpoint_of(CaptionPipeline(prepared)) is checkpoint_of(prepared) is prepared
    assert checkpoint_of(checkpoint) is checkpoint
