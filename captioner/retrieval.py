"""Images and texts as directions in one space, to find the ones by the others.

For captioners with a contrastive head (``captioner.models.heads``): the dot product of two directions is their cosine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError, raised
from captioner.generation.generate import Beside, encode, in_batches, pixels_of
from captioner.models.heads import Heads, collected, end_states

Vectors = Literal["embeddings", "features"]


def heads_of(checkpoint: Checkpoint) -> Heads:
    """The heads of a captioner. Raises ``UsageError`` where it has none."""
    if checkpoint.model.heads is None:
        raise UsageError(
            f"{checkpoint.source or 'this captioner'} has not learnt to compare photos with texts; teach it with "
            "`captioner finetune --recipe multitask`"
        )
    return checkpoint.model.heads


def embed_images(
    checkpoint: Checkpoint, images: Iterable[ImageSource | ImageError], *, batch_size: int = 16
) -> Iterator[Tensor | ImageError]:
    """The direction (W,) of each image, of length 1, on the CPU, or the reason why there is none; in order.

    Raises ``UsageError`` for a captioner without heads when it is called, before an image is read.
    """
    return _vectors(checkpoint, images, vectors_of(checkpoint, "embeddings"), batch_size)


def image_features(
    checkpoint: Checkpoint, images: Iterable[ImageSource | ImageError], *, batch_size: int = 16
) -> Iterator[Tensor | ImageError]:
    """What the encoder makes of each image, (D,), on the CPU, for any captioner: ``features`` of ``vectors_of``."""
    return _vectors(checkpoint, images, vectors_of(checkpoint, "features"), batch_size)


def vectors_of(checkpoint: Checkpoint, kind: Vectors) -> Beside:
    """The function that makes vectors, on the CPU, of images that the captioner has encoded.

    ``embeddings`` (B, W) are directions of length 1 by the contrastive head, comparable with texts; raises
    ``UsageError`` for a captioner without it. ``features`` (B, D) are the mean of the patch tokens that the decoder
    reads: no head has learnt to compare them, they lie close together (take their mean off before cosines), and texts
    have none.
    """
    if kind == "features":
        return lambda encoded: encoded.tokens.float().mean(dim=1).cpu()
    heads = heads_of(checkpoint)
    return torch.inference_mode()(lambda encoded: heads.of_images(heads.pooled(encoded)).cpu())


def _vectors(
    checkpoint: Checkpoint, images: Iterable[ImageSource | ImageError], of: Beside, batch_size: int
) -> Iterator[Tensor | ImageError]:
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        good = [pixels for pixels in batch if isinstance(pixels, Tensor)]
        found: Iterator[Tensor] = iter(of(encode(checkpoint, good))) if good else iter(())
        for pixels in batch:
            yield pixels if isinstance(pixels, ImageError) else next(found)


@torch.inference_mode()
def embed_texts(checkpoint: Checkpoint, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
    """The directions (N, W) of texts, of length 1, on the CPU.

    Raises ``UsageError`` for a captioner without heads, and for a text that says nothing or is longer than its context.
    """
    heads, config = heads_of(checkpoint), checkpoint.config
    most, width = config.decoder.context - 1, heads.image_proj.out_features
    ids = [checkpoint.tokenizer.encode(text) for text in texts]
    for text, said in zip(texts, ids, strict=True):
        if not said:
            raise UsageError(f"the text {text!r} says nothing; write what the photo shows")
        if len(said) > most:
            raise UsageError(f"the text {text[:40]!r}... has {len(said)} tokens, the model reads {most}; cut it")
    parts = [torch.zeros(0, width, dtype=torch.float32, device="cpu")]
    for start in range(0, len(ids), batch_size):
        tokens, ends = collected(ids[start : start + batch_size], config.text, config.decoder.context)
        device = heads.text_proj.weight.device
        parts.append(heads.of_texts(end_states(checkpoint.model.decoder, tokens.to(device), ends.to(device))).cpu())
    return torch.cat(parts)


def table_of(vectors: Iterable[Tensor | ImageError], checkpoint: Checkpoint, kind: Vectors) -> NDArray[np.float32]:
    """N vectors of a ``kind`` as one array (N, W). Raises the ``ImageError`` that stands in the place of one."""
    found = [raised(vector) for vector in vectors]
    features = kind == "features"
    width = checkpoint.config.decoder.width if features else heads_of(checkpoint).image_proj.out_features
    table: NDArray[np.float32] = np.zeros((len(found), width), np.float32)
    for row, vector in zip(table, found, strict=True):
        row[:] = vector.numpy()
    return table
