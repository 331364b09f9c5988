"""From photos to captions: load, batch, encode, search; lazily, in order, without stopping at a bad photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.data.loader import load_pixels
from captioner.errors import CaptionerError, ImageError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import compile_rules
from captioner.generation.sample import content_seed
from captioner.generation.search import search
from captioner.models.decoder import ImageMemory

Result = list[Hypothesis] | ImageError
T = TypeVar("T")


def generate(
    checkpoint: Checkpoint,
    images: Iterable[ImageSource | ImageError],
    config: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Result]:
    """The captions of each image, best first, or the reason why there are none; one result per image, in order."""
    config = config or checkpoint.generation
    for batch in in_batches(load_pixels(images, checkpoint.config.preprocess, ahead=2 * batch_size), batch_size):
        good = [pixels for pixels in batch if isinstance(pixels, Tensor)]
        found: Iterator[list[Hypothesis]] = iter(())
        if good:
            found = iter(caption_pixels(checkpoint, good, config)[0])
        for pixels in batch:
            yield pixels if isinstance(pixels, ImageError) else next(found)


@torch.inference_mode()
def caption_pixels(
    checkpoint: Checkpoint, pixels: list[Tensor], config: GenerationConfig
) -> tuple[list[list[Hypothesis]], ImageMemory]:
    """The captions of B images, each (3, size, size), and the memory they were read from, for all else that reads it.

    Raises ``CaptionerError`` where the images do not fit the device.
    """
    model = checkpoint.model
    device = next(model.parameters()).device
    try:
        batch = torch.stack(pixels).to(device)  # (B, 3, size, size)
        memory = model.remember(model.encode_image(batch))
        rules = compile_rules(config, checkpoint.tokenizer)
        seeds = [content_seed(image, config.sampling.seed) for image in pixels] if config.sampling else None
        return search(model.decoder, memory, checkpoint.config.text, config, rules=rules, seeds=seeds), memory
    except torch.OutOfMemoryError as error:
        raise CaptionerError(f"{len(pixels)} images at once do not fit the device; lower --batch-size") from error


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last one may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
