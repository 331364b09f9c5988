"""Embeddings of images and texts in one space, and scores of images for a query.

Embeddings need a captioner with a contrastive head (``captioner.models.heads``). They have length 1, so the dot product
of two is their cosine similarity. A captioner with labels alone scores images by the labels that a query names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captioner.captioning.batches import Beside, encode, in_batches, pixels_of
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError, unwrap
from captioner.inference import AnyCheckpoint
from captioner.metrics.nouns import LabelFinder
from captioner.models.heads import Heads, end_states, pad_and_close
from captioner.models.vision import EncodedImage

Vectors = Literal["embeddings", "features"]


def heads_of(checkpoint: AnyCheckpoint) -> Heads:
    """Return the heads of a captioner. Raises ``UsageError`` if it has none."""
    if checkpoint.model.heads is None:
        raise UsageError(
            f"{checkpoint.source or 'this captioner'} has no contrastive head to compare images with texts; train one "
            "with `captioner finetune --recipe multitask`"
        )
    return checkpoint.model.heads


def embed_images(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource | ImageError], *, batch_size: int = 16
) -> Iterator[Tensor | ImageError]:
    """Yield the embedding (W,) of each image, on the CPU, in order; an ``ImageError`` for one that cannot be read.

    Raises ``UsageError`` for a captioner without heads, at the call, before it reads an image.
    """
    return _vectors(checkpoint, images, vectors_of(checkpoint, "embeddings"), batch_size)


def image_features(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource | ImageError], *, batch_size: int = 16
) -> Iterator[Tensor | ImageError]:
    """Yield the encoder features (D,) of each image, on the CPU, for any captioner; see ``vectors_of``."""
    return _vectors(checkpoint, images, vectors_of(checkpoint, "features"), batch_size)


def vectors_of(checkpoint: AnyCheckpoint, kind: Vectors) -> Beside:
    """Return the function that turns encoded images into vectors on the CPU.

    ``embeddings`` (B, W) have length 1, come from the contrastive head and can be compared with those of texts; raises
    ``UsageError`` for a captioner without it. ``features`` (B, D) are the mean of the patch tokens. No head is trained
    to compare them: they lie close together (subtract their mean before cosines), and texts have none.
    """
    if kind == "features":
        return lambda encoded: encoded.tokens.float().mean(dim=1).cpu()
    heads = heads_of(checkpoint)
    return torch.inference_mode()(lambda encoded: heads.of_images(heads.pooled(encoded)).cpu())


def query_scores(
    checkpoint: AnyCheckpoint, query: str, images: Iterable[ImageSource | ImageError], *, batch_size: int = 16
) -> Iterator[float | ImageError]:
    """Yield the score of each image for a ``query``, in order; an ``ImageError`` for one that cannot be read.

    With a contrastive head it is the cosine of image and query times 100. Otherwise it is the geometric mean of the
    probabilities of the labels that the query names, 0 to 100. Raises ``UsageError`` at the call, before it reads an
    image, for a captioner without either, and for a query that names no label or has no words.
    """
    by_labels = checkpoint.model.heads is None and checkpoint.config.labels is not None
    compute = (_label_scores if by_labels else _cosine_scores)(checkpoint, query)
    scores = _vectors(checkpoint, images, compute, batch_size)
    return (score if isinstance(score, ImageError) else float(score) for score in scores)


def _cosine_scores(checkpoint: AnyCheckpoint, query: str) -> Beside:
    """Return the function from encoded images to their scores (B,) for the embedding of ``query``."""
    (text,) = embed_texts(checkpoint, [query])
    embeddings = vectors_of(checkpoint, "embeddings")
    return lambda encoded: 100 * embeddings(encoded) @ text


def _label_scores(checkpoint: AnyCheckpoint, query: str) -> Beside:
    """Return the function from encoded images to their scores (B,) for the labels that ``query`` names."""
    config = checkpoint.config.labels
    assert config is not None
    named = sorted(LabelFinder(config.words).find(query))
    if not named:
        raise UsageError(
            f"the query {query!r} names none of the {len(config.words)} labels of this captioner, such as "
            f"{', '.join(config.words[:5])}; use other nouns, or train a head for any text with `captioner finetune "
            "--recipe multitask`"
        )

    def scores(encoded: EncodedImage) -> Tensor:
        assert encoded.labels is not None
        return 100 * F.logsigmoid(encoded.labels[:, named]).mean(dim=1).exp().cpu()

    return scores


def _vectors(
    checkpoint: AnyCheckpoint, images: Iterable[ImageSource | ImageError], compute: Beside, batch_size: int
) -> Iterator[Tensor | ImageError]:
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        readable = [pixels for pixels in batch if isinstance(pixels, Tensor)]
        vectors: Iterator[Tensor] = iter(compute(encode(checkpoint, readable))) if readable else iter(())
        for pixels in batch:
            yield pixels if isinstance(pixels, ImageError) else next(vectors)


@torch.inference_mode()
def embed_texts(checkpoint: AnyCheckpoint, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
    """Return the embeddings (N, W) of texts, of length 1, on the CPU.

    Raises ``UsageError`` for a captioner without heads, and for a text that is empty or longer than its context.
    """
    heads, config = heads_of(checkpoint), checkpoint.config
    most, width = config.decoder.context - 1, heads.image_proj.out_features
    ids = [checkpoint.tokenizer.encode(text) for text in texts]
    for text, tokens_of_text in zip(texts, ids, strict=True):
        if not tokens_of_text:
            raise UsageError(f"the text {text!r} has no words; describe what the image shows")
        if len(tokens_of_text) > most:
            raise UsageError(
                f"the text {text[:40]!r}... has {len(tokens_of_text)} tokens, the model reads {most}; shorten it"
            )
    parts = [torch.zeros(0, width, dtype=torch.float32, device="cpu")]
    for start in range(0, len(ids), batch_size):
        part = ids[start : start + batch_size]
        starts = [checkpoint.tokenizer.start_of_ids(tokens_of_text) for tokens_of_text in part]
        tokens, ends = pad_and_close(part, config.text, config.decoder.context, starts)
        device = heads.text_proj.weight.device
        parts.append(heads.of_texts(end_states(checkpoint.model.decoder, tokens.to(device), ends.to(device))).cpu())
    return torch.cat(parts)


def table_of(vectors: Iterable[Tensor | ImageError], checkpoint: AnyCheckpoint, kind: Vectors) -> NDArray[np.float32]:
    """Return N vectors of a ``kind`` as one array (N, W). Raises the first ``ImageError`` among them."""
    rows = [unwrap(vector) for vector in vectors]
    features = kind == "features"
    width = checkpoint.config.decoder.width if features else heads_of(checkpoint).image_proj.out_features
    table: NDArray[np.float32] = np.zeros((len(rows), width), np.float32)
    for row, vector in zip(table, rows, strict=True):
        row[:] = vector.numpy()
    return table
