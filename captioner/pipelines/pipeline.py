"""From photos to ``Caption`` objects, one by one, in lists, in streams, and from what a data loader has read."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from captioner.captions import Caption, GenerationOptions, caption_of
from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig, with_options
from captioner.data.images import ImageSource
from captioner.data.loader import Transform
from captioner.errors import ImageError, UsageError, raised
from captioner.explain.explain import explain
from captioner.explain.explanation import Explanation
from captioner.generation.generate import Generated, check_learnt, generate_beside, pixels_of, stream_tokens
from captioner.generation.labels import labels_of
from captioner.generation.words import as_they_come
from captioner.hub import push_to_hub
from captioner.pipelines.judging import Judging
from captioner.pipelines.origin import Origin, parcel
from captioner.retrieval import Vectors, vectors_of

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

S = TypeVar("S", bound=ImageSource)


class CaptionPipeline(Judging):
    """A checkpoint ready to caption.

    An image is a path, an http(s) URL, bytes, an open binary file, a PIL image, or an array or tensor of (H, W, 3),
    (3, H, W) or (H, W) in uint8 or floats from 0 to 1. Threads may share a pipeline.
    Pickled, one from ``load`` is the name of its checkpoint and its settings, and is loaded again where it arrives.
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
        """Caption one image, or a list of them in one go.

        ``options`` default to the checkpoint's; ``count`` captions come back per image, the first with the others as
        its ``alternatives``; ``vectors`` as ``stream`` has them. Raises ``ImageError`` for an image that cannot be
        read; ``stream`` goes on instead.
        """
        many = images if isinstance(images, list) else [images]
        stream = self.stream(many, count=count, batch_size=batch_size, vectors=vectors, **options)
        found = [raised(found) for found in stream]
        return found if isinstance(images, list) else found[0]

    def stream(
        self,
        images: Iterable[ImageSource | ImageError],
        *,
        count: int = 1,
        batch_size: int = 16,
        vectors: Vectors | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[Caption | ImageError]:
        """One ``Caption`` or ``ImageError`` per image, in order, as soon as its batch is done.

        ``images`` may be endless. ``vectors`` come out beside the captions, of the same reading of the image:
        ``embeddings`` of image and caption, from a captioner with a contrastive head, or ``features`` of the image.
        Raises ``ConfigError`` for options that contradict each other, ``UsageError`` for one that the captioner has not
        learnt, before an image is read.
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
        results = generate_beside(self.checkpoint, pixels, config, batch_size=batch_size, beside=beside)

        def one(found: Generated) -> Caption | ImageError:
            if isinstance(found.captions, ImageError):
                return found.captions
            caption = caption_of(found.captions[:count], self.checkpoint)
            caption = replace(caption, labels=labels_of(self.checkpoint.config.labels, found.labels))
            row = found.beside
            if row is None:
                return caption
            if vectors == "features":
                return replace(caption, features=row.numpy())
            texts = (caption, *caption.alternatives)
            told = [self.embed_texts(each.text) if each.text else None for each in texts]
            first, *others = (replace(each, text_embedding=said) for each, said in zip(texts, told, strict=True))
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
        """As ``caption``, in a thread of its own: the event loop goes on meanwhile.

        Any number of threads may use one pipeline, and each gets the captions that it would get alone. They share the
        processor, so many images are captioned sooner in one list.
        """
        return await asyncio.to_thread(lambda: self.caption(images, count=count, batch_size=batch_size, **options))

    @property
    def transform(self) -> Transform:
        """What the photos of this captioner go through: a path, bytes or PIL image in, pixels (3, size, size) out.

        For a ``torch.utils.data.Dataset``, whose workers it can be sent to; ``caption_pixels`` captions the batches.
        """
        return Transform(self.checkpoint.config.preprocess)

    def caption_pixels(
        self, pixels: Tensor | Sequence[Tensor], *, count: int = 1, **options: Unpack[GenerationOptions]
    ) -> list[Caption]:
        """The captions of B images that went through ``transform``: (B, 3, size, size), all at once.

        Raises ``UsageError`` for another shape, ``ImageError`` where no caption keeps all rules that are asked for.
        """
        size = self.checkpoint.config.preprocess.size
        images = list(pixels)
        for image in images:
            if image.shape != (3, size, size):
                raise UsageError(
                    f"the model reads pixels of 3 x {size} x {size}, as pipe.transform makes them, not "
                    f"{' x '.join(map(str, image.shape))}"
                )
        stream = self._captions(images, count, len(images) or 1, self._config(count, options))
        return [raised(found) for found in stream]

    def _config(self, count: int, options: GenerationOptions) -> GenerationConfig:
        """How ``count`` captions of an image are written."""
        if count < 1:
            raise UsageError(f"{count} captions per image cannot be; ask for 1 or more")
        config = with_options(self.checkpoint.generation, options)
        if count > config.candidates:
            config = with_options(self.checkpoint.generation, {**options, "candidates": count})
        check_learnt(self.checkpoint, config)
        return config

    def stream_words(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> Iterator[str]:
        """The caption of one image in pieces, word by word as they are written; joined they are its text.

        Greedy, or drawn where ``options`` say so: a beam search knows its first word last. Raises ``UsageError`` for
        options that need one, ``ImageError`` for an image that cannot be read.
        """
        own = self.checkpoint.generation
        one_by_one = replace(own, beams=1, groups=1, diversity=0.0, candidates=1, rerank="score", refine=0)
        config = with_options(one_by_one, options)
        if config.beams > 1 or config.candidates > 1 or config.refine:
            raise UsageError(
                "words come one by one only from a greedy or drawn caption; leave out beams and what needs them"
            )
        return as_they_come(stream_tokens(self.checkpoint, image, config), self.checkpoint.tokenizer)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        license: str | None = None,
        message: str = "Push a captioner",
        token: str | bool | None = None,
    ) -> str:
        """Push what this was loaded from, with its present options, as ``captioner.push_to_hub`` does."""
        return push_to_hub(
            self.checkpoint,
            name,
            private=private,
            revision=revision,
            license=license,
            message=message,
            token=token,
        )

    def explain(
        self, image: ImageSource, caption: str | None = None, **options: Unpack[GenerationOptions]
    ) -> Explanation:
        """Where the model looked for each word of its caption of an image, or of any other ``caption``.

        ``options`` are those of ``caption`` and choose the caption. Raises ``ImageError`` for an image that cannot be
        read, ``UsageError`` for a caption that is empty or too long, or given together with options.
        """
        if caption is not None and options:
            raise UsageError(f"the caption to explain is given, so {', '.join(options)} would change nothing; drop it")
        return explain(self.checkpoint, image, with_options(self.checkpoint.generation, options), caption=caption)

    def __reduce__(self) -> tuple[Any, ...]:
        """Raises ``UsageError`` for a prepared captioner that was not loaded, as ``prepared`` makes one."""
        rest = {name: value for name, value in self.__dict__.items() if name != "checkpoint"}
        return _unpacked, (type(self), parcel(self.checkpoint, self.origin)), rest

    def __copy__(self) -> CaptionPipeline:
        return self._of(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> CaptionPipeline:
        return self._of(copy.deepcopy(self.__dict__, memo))

    def _of(self, values: dict[str, Any]) -> CaptionPipeline:
        made = object.__new__(type(self))
        made.__dict__.update(values)
        return made


def _unpacked(kind: type[CaptionPipeline], found: Origin | Checkpoint) -> CaptionPipeline:
    made = object.__new__(kind)
    made.checkpoint = found.load() if isinstance(found, Origin) else found
    return made
