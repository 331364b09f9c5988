"""A stream of ``Caption`` objects, with labels and vectors, from loaded photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from captioner.captioning.batches import Generated, caption_batches, check_learnt
from captioner.captioning.captions import Caption, GenerationOptions, caption_of
from captioner.captioning.embeddings import Vectors, embed_texts, vectors_of
from captioner.captioning.labels import labels_of
from captioner.config import GenerationConfig, with_options
from captioner.errors import ImageError, UsageError
from captioner.inference import AnyCheckpoint


def settings_of(checkpoint: AnyCheckpoint, count: int, options: GenerationOptions) -> GenerationConfig:
    """Return the settings for ``count`` captions per image; ``options`` default to the checkpoint's.

    Raises ``ConfigError`` for contradictory options, ``UsageError`` for one that needs a head the captioner lacks.
    """
    if count < 1:
        raise UsageError(f"the count of captions per image must be at least 1, not {count}")
    config = with_options(checkpoint.generation, options)
    if count > config.candidates:
        config = with_options(checkpoint.generation, {**options, "candidates": count})
    check_learnt(checkpoint, config)
    return config


def require_size(images: Iterable[Tensor], size: int) -> None:
    """Raise ``UsageError`` for an image that is not (3, size, size)."""
    for image in images:
        if image.shape != (3, size, size):
            raise UsageError(
                f"the model reads pixels of 3 x {size} x {size}, not {' x '.join(map(str, image.shape))}; use "
                "pipe.transform"
            )


def stream_captions(
    checkpoint: AnyCheckpoint,
    pixels: Iterable[Tensor | ImageError],
    config: GenerationConfig,
    *,
    count: int,
    batch_size: int,
    vectors: Vectors | None = None,
    encoded: Callable[[], object] | None = None,
) -> Iterator[Caption | ImageError]:
    """Yield a ``Caption`` with ``count`` - 1 alternatives for each loaded image, (3, size, size), or its error.

    ``encoded`` is called when a batch has been encoded. Raises ``UsageError`` at the call if ``vectors`` need a head
    that the captioner lacks.
    """
    beside = vectors_of(checkpoint, vectors) if vectors is not None else None
    results = caption_batches(checkpoint, pixels, config, batch_size=batch_size, beside=beside, encoded=encoded)
    return (_caption(checkpoint, generated, config, count=count, vectors=vectors) for generated in results)


def _caption(
    checkpoint: AnyCheckpoint, generated: Generated, config: GenerationConfig, *, count: int, vectors: Vectors | None
) -> Caption | ImageError:
    if isinstance(generated.captions, ImageError):
        return generated.captions
    caption = caption_of(generated.captions[:count], checkpoint, unsure=config.unsure)
    labels = labels_of(checkpoint.config.labels, generated.labels, neutral=config.rules.neutral)
    caption = replace(caption, labels=labels)
    row = generated.beside
    if row is None:
        return caption
    if vectors == "features":
        return replace(caption, features=row.numpy())
    texts = (caption, *caption.alternatives)
    embeddings = [embed_texts(checkpoint, [each.text])[0].numpy() if each.text else None for each in texts]
    first, *others = (replace(each, text_embedding=e) for each, e in zip(texts, embeddings, strict=True))
    return replace(first, embedding=row.numpy(), alternatives=tuple(others))
