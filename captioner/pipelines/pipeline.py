"""The pipeline: images in; captions, explanations, scores, embeddings and evaluations out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, overload

from captioner.captioning.batches import pixels_of, stream_tokens
from captioner.captioning.captions import Caption, GenerationOptions
from captioner.captioning.embeddings import Vectors, embed_images, embed_texts, image_features, table_of
from captioner.captioning.scores import Judge, likelihoods, matches, score_texts
from captioner.captioning.stream import require_size, settings_of, stream_captions
from captioner.config import Words, with_options
from captioner.data.images import ImageSource
from captioner.data.loader import Transform
from captioner.data.samples import Sample
from captioner.errors import ImageError, UsageError, unwrap
from captioner.explain.explain import Explanation, explain
from captioner.generation.words import stream_text
from captioner.inference import AnyCheckpoint
from captioner.pipelines.answering import QuestionAnsweringMixin
from captioner.pipelines.origin import Origin, PortableMixin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from typing_extensions import Unpack

    from captioner.evaluation.evaluate import Evaluation

S = TypeVar("S", bound=ImageSource)


class CaptionPipeline(QuestionAnsweringMixin, PortableMixin):
    """A checkpoint ready to caption.

        pipe = captioner.load()
        pipe.caption("photo.jpg").text
        for caption in pipe.stream(paths, batch_size=32):
            print(caption)

    An image is a path, an http(s) URL, bytes, an open binary file, a PIL image, or an array or tensor of (H, W, 3),
    (3, H, W) or (H, W) in uint8 or floats from 0 to 1. Threads may share a pipeline. A pipeline from ``load`` pickles
    as the name of its checkpoint and its settings, and unpickling loads it again. ``captioner.save``, ``evaluate`` and
    ``push_to_hub`` take a pipeline, and so does training as a start.
    """

    def __init__(self, checkpoint: AnyCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.origin: Origin | None = None  # set by ``load``

    @overload
    def caption(
        self,
        images: ImageSource,
        *,
        count: int = 1,
        batch_size: int = 16,
        vectors: Vectors | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Caption: ...

    @overload
    def caption(
        self,
        images: list[S],
        *,
        count: int = 1,
        batch_size: int = 16,
        vectors: Vectors | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption]: ...

    def caption(
        self,
        images: ImageSource | list[S],
        *,
        count: int = 1,
        batch_size: int = 16,
        vectors: Vectors | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Caption | list[Caption]:
        """Caption one image or a list of images.

        ``count``: captions per image; all but the first are its ``alternatives``. ``vectors``: as for ``stream``.
        ``options``: default to the checkpoint's. Raises ``ImageError`` for an unreadable image; ``stream`` yields the
        error instead.
        """
        stream = self.stream(_many(images), count=count, batch_size=batch_size, vectors=vectors, **options)
        captions = [unwrap(result) for result in stream]
        return captions if isinstance(images, list) else captions[0]

    def stream(
        self,
        images: Iterable[ImageSource | ImageError],
        *,
        count: int = 1,
        batch_size: int = 16,
        vectors: Vectors | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[Caption | ImageError]:
        """Yield one ``Caption`` or ``ImageError`` per image, in order, as soon as its batch is done.

        ``images`` may be infinite. ``vectors``: also return ``embeddings`` of image and caption (needs a contrastive
        head) or ``features`` of the image, from the same encoding. Before an image is read, raises ``ConfigError`` for
        contradictory options and ``UsageError`` for an option that needs a head the captioner lacks.
        """
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        config = settings_of(self.checkpoint, count, options)
        pixels = pixels_of(self.checkpoint, images, batch_size)
        return stream_captions(self.checkpoint, pixels, config, count=count, batch_size=batch_size, vectors=vectors)

    @overload
    async def acaption(
        self, images: ImageSource, *, count: int = 1, batch_size: int = 16, **options: Unpack[GenerationOptions]
    ) -> Caption: ...

    @overload
    async def acaption(
        self, images: list[S], *, count: int = 1, batch_size: int = 16, **options: Unpack[GenerationOptions]
    ) -> list[Caption]: ...

    async def acaption(
        self,
        images: ImageSource | list[S],
        *,
        count: int = 1,
        batch_size: int = 16,
        **options: Unpack[GenerationOptions],
    ) -> Caption | list[Caption]:
        """Caption in a separate thread, like ``caption``, so that the event loop continues.

        Any number of threads may use one pipeline, and each gets the same captions as alone. They share the processor,
        so one list is faster than many threads.
        """
        return await asyncio.to_thread(lambda: self.caption(images, count=count, batch_size=batch_size, **options))

    @property
    def transform(self) -> Transform:
        """The captioner's preprocessing: a path, bytes or PIL image in, pixels (3, size, size) out.

        Use it in a ``torch.utils.data.Dataset`` (it pickles) and caption the batches with ``caption_pixels``.
        """
        return Transform(self.checkpoint.config.preprocess)

    def caption_pixels(
        self, pixels: Tensor | Sequence[Tensor], *, count: int = 1, **options: Unpack[GenerationOptions]
    ) -> list[Caption]:
        """Caption B images from ``transform``, (B, 3, size, size), in one batch.

        Raises ``UsageError`` for another shape, ``ImageError`` if no caption satisfies all rules.
        """
        images = list(pixels)
        require_size(images, self.checkpoint.config.preprocess.size)
        config = settings_of(self.checkpoint, count, options)
        stream = stream_captions(self.checkpoint, images, config, count=count, batch_size=len(images) or 1)
        return [unwrap(result) for result in stream]

    def stream_words(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> Iterator[str]:
        """Yield the caption of one image word by word as it is generated; joined the words are its text.

        Decoding is greedy, or samples with such ``options``; beam search knows the first word only at its end. Raises
        ``UsageError`` for options that need beam search, ``ImageError`` for an unreadable image.
        """
        own = self.checkpoint.generation
        one_by_one = replace(
            own, beams=1, groups=1, diversity=0.0, candidates=1, rerank="score", refine=0, name_sure_labels=0.0
        )
        config = with_options(one_by_one, options)
        if options.get("unsure"):
            raise UsageError("words stream before the confidence of their caption is known; omit unsure")
        if config.beams > 1 or config.candidates > 1 or config.refine or config.name_sure_labels:
            raise UsageError(
                "only greedy decoding and sampling can stream words; omit beams and options that need them"
            )
        return stream_text(stream_tokens(self.checkpoint, image, config), self.checkpoint.tokenizer)

    def explain(
        self, image: ImageSource, caption: str | None = None, **options: Unpack[GenerationOptions]
    ) -> Explanation:
        """Explain where the model looked for each word of its own caption of an image, or of any other ``caption``.

        ``options`` of the own caption are those of ``caption``. Raises ``ImageError`` for an unreadable image,
        ``UsageError`` for a caption that is empty, too long, or combined with options.
        """
        if caption is not None and options:
            raise UsageError(f"{', '.join(options)} has no effect on a given caption; omit it")
        return explain(self.checkpoint, image, with_options(self.checkpoint.generation, options), caption=caption)

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
        return self._scored(likelihoods, images, captions, batch_size)

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
        return self._scored(matches, images, captions, batch_size)

    def embed_images(self, images: ImageSource | list[S], *, batch_size: int = 16) -> NDArray[np.float32]:
        """Return the unit-length embedding of an image, (W,), or of N images, (N, W).

        W is the contrastive head's width. The dot product of two embeddings is their cosine. Raises ``UsageError`` for
        a captioner without that head, ``ImageError`` for an unreadable image.
        """
        rows = embed_images(self.checkpoint, _many(images), batch_size=batch_size)
        table = table_of(rows, self.checkpoint, "embeddings")
        return table if isinstance(images, list) else table[0]

    def image_features(self, images: ImageSource | list[S], *, batch_size: int = 16) -> NDArray[np.float32]:
        """Return the mean patch token of an image, (D,), or of N images, (N, D).

        It needs no head, but was not trained for comparison: subtract the mean over many images before computing
        cosines. Raises ``ImageError`` for an unreadable image.
        """
        rows = image_features(self.checkpoint, _many(images), batch_size=batch_size)
        table = table_of(rows, self.checkpoint, "features")
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

    def _scored(
        self, judge: Judge, images: ImageSource | list[S], captions: str | list[str], batch_size: int
    ) -> float | list[float] | list[list[float]]:
        texts = captions if isinstance(captions, list) else [captions]
        rows = score_texts(judge, self.checkpoint, _many(images), texts, batch_size=batch_size)
        table = rows if isinstance(captions, list) else [row[0] for row in rows]
        return table if isinstance(images, list) else table[0]


def _many(images: ImageSource | list[S]) -> list[ImageSource]:
    """Return a list of images as it is, and one image as a list."""
    return list(images) if isinstance(images, list) else [images]
