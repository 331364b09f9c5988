"""Captions for those who write Python: photos in, ``Caption`` objects out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, overload

from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError
from captioner.generation.generate import generate
from captioner.generation.hypothesis import Hypothesis

S = TypeVar("S", bound=ImageSource)


@dataclass(frozen=True)
class Caption:
    """A caption: its ``text``; ``score``, the mean log-probability of its tokens (nearer to 0 is surer); and the
    runners-up of a beam search, best first, where more than one caption was asked for."""

    text: str
    score: float
    alternatives: tuple[Caption, ...] = ()

    def __str__(self) -> str:
        return self.text


class CaptionPipeline:
    """A checkpoint ready to caption.

    An image is a path, bytes, an open binary file, or a PIL image.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @overload
    def caption(
        self, images: ImageSource, *, beams: int | None = None, count: int = 1, batch_size: int = 16
    ) -> Caption: ...

    @overload
    def caption(
        self, images: list[S], *, beams: int | None = None, count: int = 1, batch_size: int = 16
    ) -> list[Caption]: ...

    def caption(
        self,
        images: ImageSource | list[S],
        *,
        beams: int | None = None,
        count: int = 1,
        batch_size: int = 16,
    ) -> Caption | list[Caption]:
        """Caption one image, or a list of them in one go.

        ``beams`` defaults to the checkpoint's; ``count`` captions come back per image, the first with the others as its
        ``alternatives``. Raises ``ImageError`` for an image that cannot be read; ``stream`` goes on instead.
        """
        if isinstance(images, list):
            return [_raised(found) for found in self.stream(images, beams=beams, count=count, batch_size=batch_size)]
        return _raised(next(self.stream([images], beams=beams, count=count)))

    def stream(
        self,
        images: Iterable[ImageSource | ImageError],
        *,
        beams: int | None = None,
        count: int = 1,
        batch_size: int = 16,
    ) -> Iterator[Caption | ImageError]:
        """One ``Caption`` or ``ImageError`` per image, in order, as soon as its batch is done.

        ``images`` may be endless.

        Raises ``UsageError`` for more captions than beams.
        """
        config = self._generation(beams, count)
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        results = generate(self.checkpoint, images, config, batch_size=batch_size)
        return (found if isinstance(found, ImageError) else self._caption(found[:count]) for found in results)

    def _generation(self, beams: int | None, count: int) -> GenerationConfig:
        config = self.checkpoint.generation
        if beams is not None:
            if beams < 1:
                raise UsageError(f"the number of beams must be at least 1, not {beams}")
            config = replace(config, beams=beams)
        if not 1 <= count <= config.beams:
            raise UsageError(f"{count} captions per image need at least as many beams, not {config.beams}")
        return config

    def _caption(self, found: list[Hypothesis]) -> Caption:
        best, *others = (Caption(self.checkpoint.tokenizer.decode(h.tokens), h.log_prob / h.length) for h in found)
        return replace(best, alternatives=tuple(others))


def load(source: str | os.PathLike[str] | None = None, *, device: str | None = None) -> CaptionPipeline:
    """A pipeline from a checkpoint directory, a Hugging Face hub id, or with nothing the model that ships.

    ``device``: as torch names it; the first CUDA device, else Apple's, else the CPU, where left out.
    """
    return CaptionPipeline(load_checkpoint(source, device=choose_device(device)))


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


def _raised(found: Caption | ImageError) -> Caption:
    if isinstance(found, ImageError):
        raise found
    return found
