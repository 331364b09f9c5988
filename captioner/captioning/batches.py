"""The path from photos to captions: load, batch, encode and search, lazily and in order, past unreadable photos."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from captioner.captioning.colour import has_colours, miscoloured, without_claims
from captioner.captioning.labels import label_bias, require_labels
from captioner.captioning.matching import match_captions, require_matching
from captioner.captioning.sure_labels import name_sure_labels
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.data.loader import load_pixels
from captioner.errors import CaptionerError, DeviceMemoryError, ImageError, unwrap
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.refine import refine
from captioner.generation.rerank import ordered, rerank
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.sample import content_seed
from captioner.generation.search import one_by_one, search
from captioner.inference import AnyCheckpoint
from captioner.models.decoder import ImageMemory
from captioner.models.vision import EncodedImage

Result = list[Hypothesis] | ImageError
T = TypeVar("T")
Beside: TypeAlias = Callable[[EncodedImage], Tensor]
"""A function from B encoded images to one row each, (B, W)."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The result for one image."""

    captions: Result  # best first, or the error
    beside: Tensor | None = None  # (W,), the row of the ``beside`` function, if given
    labels: Tensor | None = None  # (G,), log-odds of the captioner's labels


TOO_MANY = "a batch of {} images does not fit the device; lower --batch-size"
FORKED = "a forked process cannot use the GPU; start it with 'spawn', or load the captioner inside it"
NOTHING_FITS = "no caption of this image satisfies all rules; remove some rules, or raise the number of beams"


def generate(
    checkpoint: AnyCheckpoint,
    images: Iterable[ImageSource | ImageError],
    config: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Result]:
    """Yield one result per image, in order: its captions, best first, or its error."""
    config = config or checkpoint.generation
    check_learnt(checkpoint, config)
    pixels = pixels_of(checkpoint, images, batch_size)
    return (generated.captions for generated in caption_batches(checkpoint, pixels, config, batch_size=batch_size))


def caption_batches(
    checkpoint: AnyCheckpoint,
    pixels: Iterable[Tensor | ImageError],
    config: GenerationConfig,
    *,
    batch_size: int,
    beside: Beside | None = None,
    encoded: Callable[[], object] | None = None,
) -> Iterator[Generated]:
    """Caption loaded images, each (3, size, size), and yield a row of ``beside`` with each.

    ``beside`` reuses the encoding of the batch, so it costs almost nothing. ``encoded`` is called when a batch has been
    encoded, before its captions are written.
    """
    for batch in in_batches(pixels, batch_size):
        good = [image for image in batch if isinstance(image, Tensor)]
        hypotheses: Iterator[list[Hypothesis]] = iter(())
        rows: Iterator[Tensor] = iter(())
        labels: Iterator[Tensor] = iter(())
        if good:
            seen = encode(checkpoint, good)
            if encoded is not None:
                encoded()
            rows = iter(beside(seen) if beside is not None else ())
            labels = iter(seen.labels.cpu() if seen.labels is not None else ())
            hypotheses = iter(caption_encoded(checkpoint, seen, good, config)[0])
        for image in batch:
            if isinstance(image, ImageError):
                yield Generated(captions=image)
            else:
                captions = next(hypotheses) or ImageError(NOTHING_FITS)
                yield Generated(captions=captions, beside=next(rows, None), labels=next(labels, None))


def pixels_of(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource | ImageError], batch_size: int
) -> Iterator[Tensor | ImageError]:
    """Load images ahead of a model that takes batches of ``batch_size``, as ``load_pixels`` yields them.

    On a CPU, loading and captioning alternate: a decoding thread beside a model's parallel loops delays all of its
    threads (two cores: 2 to 3 % fewer photos a second). Batches too small to share among the threads do not alternate.
    """
    device, threads = next(checkpoint.model.parameters()).device, torch.get_num_threads()
    if device.type == "cpu" and batch_size >= 4 * threads:
        return load_pixels(images, checkpoint.config.preprocess, workers=threads, ahead=batch_size, in_turns=True)
    return load_pixels(images, checkpoint.config.preprocess, ahead=2 * batch_size)


def check_learnt(checkpoint: AnyCheckpoint, config: GenerationConfig) -> None:
    """Raise ``UsageError`` if ``config`` needs a head or a labeller that the captioner lacks."""
    if config.rerank == "matching":
        require_matching(checkpoint)
    require_labels(checkpoint, config)


@torch.inference_mode()
def caption_pixels(
    checkpoint: AnyCheckpoint, pixels: list[Tensor], config: GenerationConfig
) -> tuple[list[list[Hypothesis]], ImageMemory]:
    """Return the captions of B images, each (3, size, size), and their image memory for reuse.

    Raises ``CaptionerError`` if the images do not fit the device.
    """
    return caption_encoded(checkpoint, encode(checkpoint, pixels), pixels, config)


@torch.inference_mode()
def caption_encoded(
    checkpoint: AnyCheckpoint, encoded: EncodedImage, pixels: list[Tensor], config: GenerationConfig
) -> tuple[list[list[Hypothesis]], ImageMemory]:
    """Return captions and memory like ``caption_pixels``, for encoded images.

    ``pixels`` seed the sampling. With ``config.check_colour``, a colour photo that a caption calls black and white is
    searched again without these words.
    """
    with _device_errors(len(pixels)):
        memory, labels = checkpoint.model.remember(encoded), encoded.labels
        captions = caption_memory(checkpoint, memory, pixels, config, labels=labels)
        checked = without_claims(config)
        if checked is None:
            return captions, memory
        own = [candidates[: config.candidates] for candidates in captions]  # a search may have more beams
        texts = [[checkpoint.tokenizer.decode(h.tokens) for h in candidates] for candidates in own]
        if wrong := miscoloured(texts, pixels, checkpoint.config.preprocess):
            part = memory.select(torch.tensor(wrong, device=memory.centres.device))
            seen = None if labels is None else labels[wrong]
            again = caption_memory(checkpoint, part, [pixels[place] for place in wrong], checked, labels=seen)
            for place, candidates in zip(wrong, again, strict=True):
                captions[place] = candidates or captions[place]
        return captions, memory


@torch.inference_mode()
def caption_memory(
    checkpoint: AnyCheckpoint,
    memory: ImageMemory,
    seeing: Iterable[Tensor],
    config: GenerationConfig,
    *,
    labels: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Return the captions of B images in ``memory``, best first: searched under the rules, refined and reranked.

    If ``config`` samples, an image's random seed depends on its tensor in ``seeing``. An image without a caption that
    satisfies the rules gets an empty list. ``labels`` (B, G) are the log-odds of the labels, if the captioner has a
    labeller, for ``config.label_weight`` and ``config.name_sure_labels``.
    """
    rules = _rules(checkpoint, labels, config)
    seeds = [content_seed(image, config.sampling.seed) for image in seeing] if config.sampling else None
    decoder, tokenizer = checkpoint.model.decoder, checkpoint.tokenizer
    hypotheses = search(decoder, memory, checkpoint.config.text, config, rules=rules, seeds=seeds)
    if config.refine:
        hypotheses = refine(decoder, memory, hypotheses, tokenizer, config, rules=rules)
    if config.rerank != "score":  # a search may have more beams than candidates
        hypotheses = [found[: config.candidates] for found in hypotheses]
    if config.rerank == "matching":
        tokens = [[hypothesis.tokens for hypothesis in candidates] for candidates in hypotheses]
        matching = match_captions(checkpoint, memory, tokens)
        hypotheses = [ordered(*pair) for pair in zip(hypotheses, matching, strict=True)]
    else:
        hypotheses = [rerank(candidates, config, tokenizer) for candidates in hypotheses]
    if config.name_sure_labels and labels is not None:
        return name_sure_labels(checkpoint, memory, hypotheses, labels, config, rules=rules)
    return hypotheses


def stream_tokens(checkpoint: AnyCheckpoint, image: ImageSource, config: GenerationConfig) -> Iterator[int]:
    """Yield the tokens of one image's greedy or sampled caption as they are generated.

    The caller may stop at any token. Raises ``ImageError`` for an unreadable image.
    """
    pixels = unwrap(next(load_pixels([image], checkpoint.config.preprocess, ahead=1)))
    checked = without_claims(config)  # streamed words cannot be taken back, so colour photos start without the claims
    if checked is not None and has_colours(pixels, checkpoint.config.preprocess):
        config = checked
    seed = content_seed(pixels, config.sampling.seed) if config.sampling else 0
    with torch.inference_mode():
        encoded = encode(checkpoint, [pixels])
        memory, rules = checkpoint.model.remember(encoded), _rules(checkpoint, encoded.labels, config)
    return one_by_one(checkpoint.model.decoder, memory, checkpoint.config.text, config, rules=rules, seed=seed)


def _rules(checkpoint: AnyCheckpoint, labels: Tensor | None, config: GenerationConfig) -> Rules:
    """Compile the rules of ``config``, with the bias toward the labels of B images by their log-odds (B, G)."""
    return replace(compile_rules(config, checkpoint.tokenizer), labels=label_bias(checkpoint, labels, config))


@torch.inference_mode()
def encode(checkpoint: AnyCheckpoint, pixels: list[Tensor]) -> EncodedImage:
    """Encode B images, each (3, size, size).

    Raises ``CaptionerError`` if they do not fit the device.
    """
    model = checkpoint.model
    with _device_errors(len(pixels)):
        # Channels last, as loaded: stacking by channels takes 0.2 ms a photo instead of 0.06.
        batch = torch.stack([image.movedim(0, -1) for image in pixels]).movedim(-1, 1)  # (B, 3, size, size)
        return model.encode_image(batch.to(next(model.parameters()).device))


@contextlib.contextmanager
def _device_errors(images: int) -> Iterator[None]:
    """Turn out-of-memory errors of any device, and a GPU in a forked process, into ``CaptionerError``.

    torch has no separate error class for a CPU's allocator.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            raise DeviceMemoryError(TOO_MANY.format(images)) from error
        if "forked subprocess" in str(error):  # CUDA's
            raise CaptionerError(FORKED) from error
        raise


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; the last one may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
