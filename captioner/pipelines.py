"""Captions for those who write Python: photos in, ``Caption`` objects out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, overload

from captioner.captions import Caption, GenerationOptions, Word, caption_of, raised
from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.config import with_options
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError
from captioner.explain.explain import explain
from captioner.explain.explanation import Explanation
from captioner.generation.generate import Judge, check_learnt, generate, likelihoods, matches, stream_tokens
from captioner.generation.words import as_they_come
from captioner.hub import push_to_hub
from captioner.retrieval import embed_images, embed_texts, table_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from captioner.layers.linears import Precision

__all__ = ["Caption", "CaptionPipeline", "GenerationOptions", "Word", "choose_device", "load", "prepared"]

S = TypeVar("S", bound=ImageSource)


class CaptionPipeline:
    """A checkpoint ready to caption.

    An image is a path, bytes, an open binary file, or a PIL image.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @overload
    def caption(
        self, images: ImageSource, *, count: int = 1, batch_size: int = 16, **options: Unpack[GenerationOptions]
    ) -> Caption: ...

    @overload
    def caption(
        self, images: list[S], *, count: int = 1, batch_size: int = 16, **options: Unpack[GenerationOptions]
    ) -> list[Caption]: ...

    def caption(
        self,
        images: ImageSource | list[S],
        *,
        count: int = 1,
        batch_size: int = 16,
        **options: Unpack[GenerationOptions],
    ) -> Caption | list[Caption]:
        """Caption one image, or a list of them in one go.

        ``options`` default to the checkpoint's; ``count`` captions come back per image, the first with the others as
        its ``alternatives``. Raises ``ImageError`` for an image that cannot be read; ``stream`` goes on instead.
        """
        if isinstance(images, list):
            return [raised(found) for found in self.stream(images, count=count, batch_size=batch_size, **options)]
        return raised(next(self.stream([images], count=count, **options)))

    def stream(
        self,
        images: Iterable[ImageSource | ImageError],
        *,
        count: int = 1,
        batch_size: int = 16,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[Caption | ImageError]:
        """One ``Caption`` or ``ImageError`` per image, in order, as soon as its batch is done.

        ``images`` may be endless. Raises ``ConfigError`` for options that contradict each other, ``UsageError`` for one
        that the captioner has not learnt, before an image is read.
        """
        if count < 1:
            raise UsageError(f"{count} captions per image cannot be; ask for 1 or more")
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        config = with_options(self.checkpoint.generation, options)
        if count > config.candidates:
            config = with_options(self.checkpoint.generation, {**options, "candidates": count})
        check_learnt(self.checkpoint, config)
        results = generate(self.checkpoint, images, config, batch_size=batch_size)
        return (
            found if isinstance(found, ImageError) else caption_of(found[:count], self.checkpoint) for found in results
        )

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
        """log p(caption and its end | image), natural logarithm, of every caption under every image.

        A list of images gives a list of what one image gives, a list of captions likewise. Raises ``ImageError`` for an
        image that cannot be read, ``UsageError`` for a caption that is longer than the model's context.
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
        """The probability, 0 to 1, that a caption is true of an image: of every caption and every image, as ``score``.

        For a captioner with a matching head, which has learnt to tell true captions from similar false ones; raises
        ``UsageError`` for another one, and otherwise what ``score`` raises.
        """
        return self._judged(matches, images, captions, batch_size)

    def embed_images(self, images: ImageSource | list[S], *, batch_size: int = 16) -> NDArray[np.float32]:
        """The direction of an image, (W,), or of N images, (N, W): of length 1, W as the contrastive head is wide.

        The dot product of two directions is their cosine. Raises ``UsageError`` for a captioner without that head,
        ``ImageError`` for an image that cannot be read.
        """
        sources: list[ImageSource] = list(images) if isinstance(images, list) else [images]
        found = table_of(embed_images(self.checkpoint, sources, batch_size=batch_size), self.checkpoint)
        return found if isinstance(images, list) else found[0]

    def embed_texts(self, texts: str | list[str]) -> NDArray[np.float32]:
        """The direction of a text, (W,), or of N texts, (N, W), in the space of ``embed_images``.

        Raises ``UsageError`` where that does, for a text without words, and for one longer than the model's context.
        """
        found = table_of(embed_texts(self.checkpoint, texts if isinstance(texts, list) else [texts]), self.checkpoint)
        return found if isinstance(texts, list) else found[0]

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


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    precision: Precision = "fp32",
    revision: str | None = None,
) -> CaptionPipeline:
    """A pipeline from a checkpoint directory, a Hugging Face hub id, or with nothing the model that ships.

    ``revision``: the branch, tag or commit of a hub id; ``org/name@revision`` says the same. ``device``: as torch names
    it; the first CUDA device, else Apple's, else the CPU, where left out. ``precision`` of the weights: less is faster.
    The model is prepared for captioning alone; ``captioner.checkpoint.load`` gives one that can be trained and saved.
    """
    if revision is not None:
        source = f"{source}@{revision}"
    return prepared(load_checkpoint(source, device=choose_device(device)), precision)


def prepared(checkpoint: Checkpoint, precision: Precision) -> CaptionPipeline:
    """A pipeline from a checkpoint in memory, which from then on only captions."""
    from captioner.models.precision import for_inference

    for_inference(checkpoint.model, precision)
    return CaptionPipeline(checkpoint)


def choose_device(name: str | None = None) -> str:
    """The device of that name, or the fastest of this machine. Raises ``UsageError`` for one that cannot be used."""
    import torch

    if name is not None:
        try:
            torch.zeros(1, device=name).item()
        except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ...: each device has its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"the device {name!r} cannot be used ({reason}); name another one, such as cpu") from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
