"""From photos to captions: load, batch, encode, search; lazily, in order, without stopping at a bad photo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.data.loader import load_pixels
from captioner.errors import CaptionerError, ImageError, raised
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.matching import match_captions, require_matching
from captioner.generation.refine import refine
from captioner.generation.rerank import ordered, rerank
from captioner.generation.rules import compile_rules
from captioner.generation.sample import content_seed
from captioner.generation.search import one_by_one, search
from captioner.models.decoder import ImageMemory
from captioner.models.vision import EncodedImage

Result = list[Hypothesis] | ImageError
T = TypeVar("T")
Judge: TypeAlias = Callable[..., Iterator[list[list[float]]]]
"""``likelihoods`` or ``matches``."""
Beside: TypeAlias = Callable[[EncodedImage], Tensor]
"""A row for each of B encoded images, (B, W)."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The ``captions`` of an image, best first, or the reason why there are none.

    ``beside``: what was asked for beside them, (W,). ``labels``: the log-odds of each label of the captioner, (G,).
    """

    captions: Result
    beside: Tensor | None = None
    labels: Tensor | None = None


TOO_MANY = "{} images at once do not fit the device; lower --batch-size"
FORKED = "a GPU cannot be used in a forked process; start it by 'spawn', or load the captioner in it, and not before"
NOTHING_FITS = "no caption of this image keeps all the rules; take some of them back, or raise the number of beams"


def generate(
    checkpoint: Checkpoint,
    images: Iterable[ImageSource | ImageError],
    config: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Result]:
    """The captions of each image, best first, or the reason why there are none; one result per image, in order."""
    config = config or checkpoint.generation
    check_learnt(checkpoint, config)
    pixels = pixels_of(checkpoint, images, batch_size)
    return (found.captions for found in generate_beside(checkpoint, pixels, config, batch_size=batch_size))


def generate_beside(
    checkpoint: Checkpoint,
    pixels: Iterable[Tensor | ImageError],
    config: GenerationConfig,
    *,
    batch_size: int,
    beside: Beside | None = None,
) -> Iterator[Generated]:
    """Caption images that are read already, each (3, size, size), and give the row that ``beside`` makes of each.

    ``beside`` sees the same encoding of a batch that is captioned, so it costs next to nothing.
    """
    for batch in in_batches(pixels, batch_size):
        good = [image for image in batch if isinstance(image, Tensor)]
        found: Iterator[list[Hypothesis]] = iter(())
        rows: Iterator[Tensor] = iter(())
        labels: Iterator[Tensor] = iter(())
        if good:
            encoded = encode(checkpoint, good)
            rows = iter(beside(encoded) if beside is not None else ())
            labels = iter(encoded.labels.cpu() if encoded.labels is not None else ())
            found = iter(caption_encoded(checkpoint, encoded, good, config)[0])
        for image in batch:
            if isinstance(image, ImageError):
                yield Generated(captions=image)
            else:
                captions = next(found) or ImageError(NOTHING_FITS)
                yield Generated(captions=captions, beside=next(rows, None), labels=next(labels, None))


def pixels_of(
    checkpoint: Checkpoint, images: Iterable[ImageSource | ImageError], batch_size: int
) -> Iterator[Tensor | ImageError]:
    """Images read ahead for a model that takes ``batch_size`` at once, as ``load_pixels`` gives them.

    A CPU loads and captions in turns: beside the parallel loops of a model each thread that decodes holds up all of
    them (two cores: 2 to 3 % fewer photos a second). Batches too small to share among its threads do without.
    """
    device, threads = next(checkpoint.model.parameters()).device, torch.get_num_threads()
    if device.type == "cpu" and batch_size >= 4 * threads:
        return load_pixels(images, checkpoint.config.preprocess, workers=threads, ahead=batch_size, in_turns=True)
    return load_pixels(images, checkpoint.config.preprocess, ahead=2 * batch_size)


def check_learnt(checkpoint: Checkpoint, config: GenerationConfig) -> None:
    """Raise ``UsageError`` where ``config`` asks for what the captioner has not learnt."""
    if config.rerank == "matching":
        require_matching(checkpoint)


@torch.inference_mode()
def caption_pixels(
    checkpoint: Checkpoint, pixels: list[Tensor], config: GenerationConfig
) -> tuple[list[list[Hypothesis]], ImageMemory]:
    """The captions of B images, each (3, size, size), and the memory they were read from, for all else that reads it.

    Raises ``CaptionerError`` where the images do not fit the device.
    """
    return caption_encoded(checkpoint, encode(checkpoint, pixels), pixels, config)


@torch.inference_mode()
def caption_encoded(
    checkpoint: Checkpoint, encoded: EncodedImage, pixels: list[Tensor], config: GenerationConfig
) -> tuple[list[list[Hypothesis]], ImageMemory]:
    """As ``caption_pixels``, of images that are encoded already; draws depend on their ``pixels``."""
    with _fits(len(pixels)):
        memory = checkpoint.model.remember(encoded)
        return caption_memory(checkpoint, memory, pixels, config), memory


@torch.inference_mode()
def caption_memory(
    checkpoint: Checkpoint, memory: ImageMemory, seeing: Iterable[Tensor], config: GenerationConfig
) -> list[list[Hypothesis]]:
    """The captions of B images in ``memory``, best first: found under the rules, refined and reranked.

    Where ``config`` draws, the draws of an image depend on its tensor in ``seeing``. An image of which no caption keeps
    the rules has none.
    """
    rules = compile_rules(config, checkpoint.tokenizer)
    seeds = [content_seed(image, config.sampling.seed) for image in seeing] if config.sampling else None
    decoder, tokenizer = checkpoint.model.decoder, checkpoint.tokenizer
    found = search(decoder, memory, checkpoint.config.text, config, rules=rules, seeds=seeds)
    if config.refine:
        found = refine(decoder, memory, found, tokenizer, config, rules=rules)
    if config.rerank == "matching":
        judged = match_captions(checkpoint.model, memory, [[h.tokens for h in of_image] for of_image in found])
        return [ordered(*pair) for pair in zip(found, judged, strict=True)]
    return [rerank(candidates, config, tokenizer) for candidates in found]


def stream_tokens(checkpoint: Checkpoint, image: ImageSource, config: GenerationConfig) -> Iterator[int]:
    """The tokens of one image's greedy or drawn caption, as they are written.

    Nothing is left behind when the reader stops in the middle. Raises ``ImageError`` for an image that cannot be read.
    """
    pixels = raised(next(load_pixels([image], checkpoint.config.preprocess, ahead=1)))
    rules = compile_rules(config, checkpoint.tokenizer)
    seed = content_seed(pixels, config.sampling.seed) if config.sampling else 0
    with torch.inference_mode():
        memory = _remember(checkpoint, [pixels])
    return one_by_one(checkpoint.model.decoder, memory, checkpoint.config.text, config, rules=rules, seed=seed)


def likelihoods(
    checkpoint: Checkpoint, images: Iterable[ImageSource], captions: Sequence[Sequence[int]], *, batch_size: int = 16
) -> Iterator[list[list[float]]]:
    """log p(caption, end | image) of every caption, as token ids, under every image of a batch: B rows of values.

    Raises ``ImageError`` for an image that cannot be read.
    """
    tokenizer = checkpoint.tokenizer
    starts = [tokenizer.start_of_ids(ids) for ids in captions]
    for memory in _memories(checkpoint, images, batch_size):
        found = score_captions(
            checkpoint.model.decoder, memory, [captions] * memory.images, checkpoint.config.text, starts=starts
        )
        yield [[hypothesis.log_prob for hypothesis in row] for row in found]


def matches(
    checkpoint: Checkpoint, images: Iterable[ImageSource], captions: Sequence[Sequence[int]], *, batch_size: int = 16
) -> Iterator[list[list[float]]]:
    """As ``likelihoods``, but the probability, 0 to 1, that a caption is true of an image.

    Raises ``UsageError`` for a captioner without a matching head, before an image is read.
    """
    require_matching(checkpoint)
    for memory in _memories(checkpoint, images, batch_size):
        yield match_captions(checkpoint.model, memory, [captions] * memory.images)


def _memories(checkpoint: Checkpoint, images: Iterable[ImageSource], batch_size: int) -> Iterator[ImageMemory]:
    """The memory of each batch of images. Raises ``ImageError`` for one that cannot be read."""
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        with torch.inference_mode():
            memory = _remember(checkpoint, [raised(pixels) for pixels in batch])
        yield memory


def _remember(checkpoint: Checkpoint, pixels: list[Tensor]) -> ImageMemory:
    return checkpoint.model.remember(encode(checkpoint, pixels))


@torch.inference_mode()
def encode(checkpoint: Checkpoint, pixels: list[Tensor]) -> EncodedImage:
    """B images, each (3, size, size), as the decoder sees them.

    Raises ``CaptionerError`` where they do not fit the device.
    """
    model = checkpoint.model
    with _fits(len(pixels)):
        # Channels last, as they are read: stacked by channels 0.2 ms a photo instead of 0.06.
        batch = torch.stack([image.movedim(0, -1) for image in pixels]).movedim(-1, 1)  # (B, 3, size, size)
        return model.encode_image(batch.to(next(model.parameters()).device))


@contextlib.contextmanager
def _fits(images: int) -> Iterator[None]:
    """Memory that runs out, of whatever device, and a GPU in a forked child, as sentences.

    A CPU's allocator has no error of its own in torch.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            raise CaptionerError(TOO_MANY.format(images)) from error
        if "forked subprocess" in str(error):  # CUDA's
            raise CaptionerError(FORKED) from error
        raise


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
