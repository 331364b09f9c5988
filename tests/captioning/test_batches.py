"""Photos to hypotheses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from captioner.captioning.batches import caption_pixels, generate, in_batches
from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import CaptionerError, ImageError
from captioner.training.tasks import Data


def test_one_result_per_image_in_order(checkpoint: Checkpoint, data: Data) -> None:
    paths = [sample.path for sample in data.train]
    found = list(generate(checkpoint, [*paths[:3], b"", *paths[3:]], GenerationConfig(beams=2), batch_size=3))
    assert isinstance(found.pop(3), ImageError)
    said = [[checkpoint.tokenizer.decode(h.tokens) for h in result] for result in found]  # type: ignore[union-attr]
    assert [first for first, _ in said] == [sample.captions[0] for sample in data.train]


def test_the_checkpoints_own_defaults_hold_where_nothing_is_said(checkpoint: Checkpoint, data: Data) -> None:
    checkpoint.generation = replace(checkpoint.generation, beams=3, max_tokens=2)
    (found,) = generate(checkpoint, [data.train[0].path])
    assert isinstance(found, list)
    assert len(found) == 3
    assert all(len(hypothesis.tokens) <= 2 for hypothesis in found)


def test_the_memory_comes_back_for_all_else_that_reads_it(checkpoint: Checkpoint, data: Data) -> None:
    pixels = [preprocess(open_image(s.path), checkpoint.config.preprocess) for s in data.train[:2]]
    found, memory = caption_pixels(checkpoint, pixels, GenerationConfig())
    assert (len(found), memory.images) == (2, 2)
    assert memory.centres.shape == (4, 2)  # 64 pixels in patches of 32


def _full_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("fill", [_full_gpu, lambda: torch.empty(1 << 58)])
def test_too_little_memory_is_one_sentence(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch, fill: Callable[[], object]
) -> None:
    monkeypatch.setattr(checkpoint.model, "encode_image", lambda *_: fill())
    with pytest.raises(CaptionerError, match="a batch of 2 images does not fit the device; lower --batch-size"):
        list(generate(checkpoint, [sample.path for sample in data.train[:2]]))


def test_other_errors_are_themselves(checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint.model, "encode_image", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        list(generate(checkpoint, [data.train[0].path]))


@pytest.mark.parametrize(("items", "lists"), [(0, []), (3, [[0, 1], [2]]), (4, [[0, 1], [2, 3]])])
def test_in_batches(items: int, lists: list[list[int]]) -> None:
    assert list(in_batches(range(items), 2)) == lists
