"""The pipeline from photos to ``Caption`` objects: single images, lists, streams and data loader batches."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from captioner.captioning.batches import Generated, caption_batches, check_learnt, pixels_of, stream_tokens
from captioner.captioning.captions import Caption, GenerationOptions, caption_of
from captioner.captioning.embeddings import Vectors, vectors_of
from captioner.captioning.labels import labels_of
from captioner.config import GenerationConfig, with_options
from captioner.data.images import ImageSource
from captioner.data.loader import Transform
from captioner.errors import ImageError, UsageError, unwrap
from captioner.explain.explain import explain
from captioner.explain.explanation import Explanation
from captioner.generation.words import as_they_come
from captioner.pipelines.judging import Judging
from captioner.pipelines.origin import Origin, Weights, parcel

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

S = TypeVar("S", bound=ImageSource)


class CaptionPipeline(Judging):
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
        many = images if isinstance(images, list) else [images]
        stream = self.stream(many, count=count, batch_size=batch_size, vectors=vectors, **options)
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
        config = self._config(count, options)
        pixels = pixels_of(self.checkpoint, images, batch_size)
        return self._captions(pixels, count, batch_size, config, vectors)

    def _captions(
        self,
        pixels: Iterable[Tensor | ImageError],
        count: int,
        batch_size: int,
        config: GenerationConfig,
        vectors: Vectors | None = None,
    ) -> Iterator[Caption | ImageError]:
        beside = vectors_of(self.checkpoint, vectors) if vectors is not None else None
        results = caption_batches(self.checkpoint, pixels, config, batch_size=batch_size, beside=beside)

        def one(generated: Generated) -> Caption | ImageError:
            if isinstance(generated.captions, ImageError):
                return generated.captions
            caption = caption_of(generated.captions[:count], self.checkpoint)
            caption = replace(caption, labels=labels_of(self.checkpoint.config.labels, generated.labels))
            row = generated.beside
            if row is None:
                return caption
            if vectors == "features":
                return replace(caption, features=row.numpy())
            texts = (caption, *caption.alternatives)
            embeddings = [self.embed_texts(each.text) if each.text else None for each in texts]
            first, *others = (replace(each, text_embedding=e) for each, e in zip(texts, embeddings, strict=True))
            return replace(first, embedding=row.numpy(), alternatives=tuple(others))

        return map(one, results)

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
        size = self.checkpoint.config.preprocess.size
        images = list(pixels)
        for image in images:
            if image.shape != (3, size, size):
                raise UsageError(
                    f"the model reads pixels of 3 x {size} x {size}, not {' x '.join(map(str, image.shape))}; use "
                    "pipe.transform"
                )
        stream = self._captions(images, count, len(images) or 1, self._config(count, options))
        return [unwrap(result) for result in stream]

    def _config(self, count: int, options: GenerationOptions) -> GenerationConfig:
        """Return the settings for ``count`` captions per image."""
        if count < 1:
            raise UsageError(f"the count of captions per image must be at least 1, not {count}")
        config = with_options(self.checkpoint.generation, options)
        if count > config.candidates:
            config = with_options(self.checkpoint.generation, {**options, "candidates": count})
        check_learnt(self.checkpoint, config)
        return config

    def stream_words(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> Iterator[str]:
        """Yield the caption of one image word by word as it is generated; joined the words are its text.

        Decoding is greedy, or samples with such ``options``; beam search knows its first word last. Raises
        ``UsageError`` for options that need beam search, ``ImageError`` for an unreadable image.
        """
        own = self.checkpoint.generation
        one_by_one = replace(
            own, beams=1, groups=1, diversity=0.0, candidates=1, rerank="score", refine=0, name_sure_labels=0.0
        )
        config = with_options(one_by_one, options)
        if config.beams > 1 or config.candidates > 1 or config.refine or config.name_sure_labels:
            raise UsageError(
                "only greedy decoding and sampling can stream words; omit beams and options that need them"
            )
        return as_they_come(stream_tokens(self.checkpoint, image, config), self.checkpoint.tokenizer)

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the pipeline as the name of its checkpoint, or with its weights if ``load`` did not load it."""
        rest = {name: value for name, value in self.__dict__.items() if name != "checkpoint"}
        return _unpacked, (type(self), parcel(self.checkpoint, self.origin)), rest

    def __copy__(self) -> CaptionPipeline:
        return self._copy_of(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> CaptionPipeline:
        return self._copy_of(copy.deepcopy(self.__dict__, memo))

    def _copy_of(self, values: dict[str, Any]) -> CaptionPipeline:
        pipe = object.__new__(type(self))
        pipe.__dict__.update(values)
        return pipe


def _unpacked(kind: type[CaptionPipeline], source: Origin | Weights) -> CaptionPipeline:
    pipe = object.__new__(kind)
    pipe.checkpoint = source.load()
    return pipe
