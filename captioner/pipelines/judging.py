"""Scores of given captions and of datasets, and embeddings of photos and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from captioner.captioning.batches import Judge, likelihoods, matches
from captioner.captioning.captions import GenerationOptions
from captioner.captioning.embeddings import embed_images, embed_texts, image_features, table_of
from captioner.config import Words, with_options
from captioner.data.images import ImageSource
from captioner.data.samples import Sample
from captioner.errors import UsageError
from captioner.pipelines.saving import Saving

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from captioner.evaluation.evaluate import Evaluation

S = TypeVar("S", bound=ImageSource)


class Judging(Saving):
    """The methods of ``CaptionPipeline`` that return numbers."""

    @overload
    def score(self, images: ImageSource, captions: str, *, batch_size: int = 16) -> float: ...

    @overload
    def score(self, images: ImageSource, captions: list[str], *, batch_size: int = 16) -> list[float]: ...

    @overload
    def score(self, images: list[S], captions: str, *, batch_size: int = 16) -> list[float]: ...

    @overload
    def score(self, images: list[S], captions: list[str], *, batch_size: int = 16) -> list[list[float]]: ...

    def score(
        self, images: ImageSource | list[S], captions: str | list[str], *, batch_size: int = 16
    ) -> float | list[float] | list[list[float]]:
        """Return log p(caption and its end | image), natural logarithm, of every caption under every image.

        A list of images gives one result per image, and a list of captions one value per caption. Raises ``ImageError``
        for an unreadable image, ``UsageError`` for a caption that is longer than the model's context.
        """
        return self._judged(likelihoods, images, captions, batch_size)

    @overload
    def match(self, images: ImageSource, captions: str, *, batch_size: int = 16) -> float: ...

    @overload
    def match(self, images: ImageSource, captions: list[str], *, batch_size: int = 16) -> list[float]: ...

    @overload
    def match(self, images: list[S], captions: str, *, batch_size: int = 16) -> list[float]: ...

    @overload
    def match(self, images: list[S], captions: list[str], *, batch_size: int = 16) -> list[list[float]]: ...

    def match(
        self, images: ImageSource | list[S], captions: str | list[str], *, batch_size: int = 16
    ) -> float | list[float] | list[list[float]]:
        """Return the probability, 0 to 1, that a caption is true of an image, for lists as in ``score``.

        It needs a matching head, which was trained to separate true captions from similar false ones. Raises
        ``UsageError`` without one, and otherwise as ``score`` does.
        """
        return self._judged(matches, images, captions, batch_size)

    def embed_images(self, images: ImageSource | list[S], *, batch_size: int = 16) -> NDArray[np.float32]:
        """Return the unit-length embedding of an image, (W,), or of N images, (N, W).

        W is the contrastive head's width. The dot product of two embeddings is their cosine. Raises ``UsageError`` for
        a captioner without that head, ``ImageError`` for an unreadable image.
        """
        sources: list[ImageSource] = list(images) if isinstance(images, list) else [images]
        table = table_of(embed_images(self.checkpoint, sources, batch_size=batch_size), self.checkpoint, "embeddings")
        return table if isinstance(images, list) else table[0]

    def image_features(self, images: ImageSource | list[S], *, batch_size: int = 16) -> NDArray[np.float32]:
        """Return the mean patch token of an image, (D,), or of N images, (N, D).

        It needs no head, but was not trained for comparison: subtract the mean over many images before computing
        cosines. Raises ``ImageError`` for an unreadable image.
        """
        sources: list[ImageSource] = list(images) if isinstance(images, list) else [images]
        table = table_of(image_features(self.checkpoint, sources, batch_size=batch_size), self.checkpoint, "features")
        return table if isinstance(images, list) else table[0]

    def embed_texts(self, texts: str | list[str]) -> NDArray[np.float32]:
        """Return the embedding of a text, (W,), or of N texts, (N, W), comparable with ``embed_images``.

        Raises ``UsageError`` without a contrastive head, for a text without words, and for a text longer than the
        model's context.
        """
        rows = embed_texts(self.checkpoint, texts if isinstance(texts, list) else [texts])
        table = table_of(rows, self.checkpoint, "embeddings")
        return table if isinstance(texts, list) else table[0]

    def evaluate(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int = 16,
        words: Words | None = None,
        training: Sequence[Sample] | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Evaluation:
        """Caption every image of a dataset and score the captions, as ``captioner.evaluate`` does.

        ``options``: default to the checkpoint's.
        """
        from captioner.evaluation.evaluate import evaluate  # its metrics are not needed for captions

        generation = with_options(self.checkpoint.generation, options)
        return evaluate(self, samples, generation, batch_size=batch_size, words=words, training=training)

    def _judged(
        self, judge: Judge, images: ImageSource | list[S], captions: str | list[str], batch_size: int
    ) -> float | list[float] | list[list[float]]:
        sources: list[ImageSource] = list(images) if isinstance(images, list) else [images]
        texts = captions if isinstance(captions, list) else [captions]
        ids = [self.checkpoint.tokenizer.encode(text) for text in texts]
        most = self.checkpoint.config.decoder.context - 1
        for text, tokens in zip(texts, ids, strict=True):
            if len(tokens) > most:
                raise UsageError(
                    f"the caption {text[:40]!r}... has {len(tokens)} tokens, the model reads {most}; cut it"
                )
        rows = [row for batch in judge(self.checkpoint, sources, ids, batch_size=batch_size) for row in batch]
        table = rows if isinstance(captions, list) else [row[0] for row in rows]
        return table if isinstance(images, list) else table[0]
