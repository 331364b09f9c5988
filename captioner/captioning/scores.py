"""Scores of given captions of photos: their likelihoods, or the probabilities that they are true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import torch

from captioner.captioning.batches import encode, in_batches, pixels_of
from captioner.captioning.matching import match_captions, require_matching
from captioner.data.images import ImageSource
from captioner.errors import UsageError, unwrap
from captioner.generation.likelihood import score_captions
from captioner.inference import AnyCheckpoint
from captioner.models.decoder import ImageMemory

Judge: TypeAlias = Callable[..., Iterator[list[list[float]]]]
"""``likelihoods`` or ``matches``."""


def score_texts(
    judge: Judge, checkpoint: AnyCheckpoint, images: Sequence[ImageSource], texts: Sequence[str], *, batch_size: int
) -> list[list[float]]:
    """Return a row of scores by ``judge`` for each image, one score per text.

    Raises ``UsageError`` for a text that is longer than the model's context, otherwise as ``judge`` does.
    """
    ids = [checkpoint.tokenizer.encode(text) for text in texts]
    most = checkpoint.config.decoder.context - 1
    for text, tokens in zip(texts, ids, strict=True):
        if len(tokens) > most:
            raise UsageError(f"the caption {text[:40]!r}... has {len(tokens)} tokens, the model reads {most}; cut it")
    return [row for batch in judge(checkpoint, images, ids, batch_size=batch_size) for row in batch]


def likelihoods(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource], captions: Sequence[Sequence[int]], *, batch_size: int = 16
) -> Iterator[list[list[float]]]:
    """Yield per batch B rows of log p(caption, end | image), one value per caption given as token ids.

    Raises ``ImageError`` for an unreadable image.
    """
    tokenizer = checkpoint.tokenizer
    starts = [tokenizer.start_of_ids(ids) for ids in captions]
    for memory in _memories(checkpoint, images, batch_size):
        scored = score_captions(
            checkpoint.model.decoder, memory, [captions] * memory.images, checkpoint.config.text, starts=starts
        )
        yield [[hypothesis.log_prob for hypothesis in row] for row in scored]


def matches(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource], captions: Sequence[Sequence[int]], *, batch_size: int = 16
) -> Iterator[list[list[float]]]:
    """Yield per batch B rows of the probability, 0 to 1, that each caption is true of the image.

    Raises ``UsageError`` for a captioner without a matching head, before an image is read.
    """
    require_matching(checkpoint)
    for memory in _memories(checkpoint, images, batch_size):
        yield match_captions(checkpoint, memory, [captions] * memory.images)


def _memories(checkpoint: AnyCheckpoint, images: Iterable[ImageSource], batch_size: int) -> Iterator[ImageMemory]:
    """Yield the memory of each batch of images. Raises ``ImageError`` for an unreadable image."""
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        with torch.inference_mode():
            memory = checkpoint.model.remember(encode(checkpoint, [unwrap(pixels) for pixels in batch]))
        yield memory
