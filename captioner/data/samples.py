"""Samples, the common output of all readers: an image and its captions; and sequences too long for memory."""

from __future__ import annotations

import hashlib
import io
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import overload

from captioner.data.items import Refused, span
from captioner.data.paths import shown
from captioner.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with all its captions."""

    name: str  # identifies the image in its dataset (the file name in the annotation) and decides its split
    path: Path
    captions: tuple[str, ...]  # in the dataset's order
    id: str = ""  # number of the image in the annotation, which prediction files may use
    span: tuple[int, int] | None = None  # (offset, bytes) of an image inside the tar at ``path``

    def image(self) -> Path | io.BytesIO:
        """Return the input of ``open_image``. Raises ``ImageError`` if the tar cannot be read."""
        if self.span is None:
            return self.path
        offset, size = self.span
        try:
            with self.path.open("rb") as file:
                return Inside(span(file, offset, size), f"{self.path}/{self.name}")
        except Refused as refused:
            raise ImageError(f"cannot read {shown(self.name)} in {shown(self.path)}: {refused}") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageError(f"cannot read {shown(self.name)} in {shown(self.path)}: {reason}") from None


class Inside(io.BytesIO):
    """The bytes of a file inside an archive, with a ``name`` for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class Samples(Sequence[Sample]):
    """A lazy sequence of samples."""

    fingerprint: str  # hash of all names, captions and their order

    def at(self, index: int) -> Sample:
        """Return the sample at an index, from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no sample {index} of {len(self)}")
        return self.at(index % len(self))


class Part(Samples):
    """A subset of samples, by index; it takes four bytes per sample."""

    def __init__(self, whole: Samples, indices: Iterable[int]) -> None:
        self.whole, self.places = whole, array("I", indices)
        self.fingerprint = _digest(whole.fingerprint.encode() + self.places.tobytes())

    def __len__(self) -> int:
        return len(self.places)

    def at(self, index: int) -> Sample:
        return self.whole.at(self.places[index])


class Joined(Samples):
    """A concatenation of sequences of samples."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))
        prints = [part.fingerprint if isinstance(part, Samples) else repr(list(part)) for part in parts]
        self.fingerprint = _digest("\n".join(prints).encode("utf-8", "surrogatepass"))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def at(self, index: int) -> Sample:
        part = bisect_right(self.ends, index)
        return self.parts[part][index - (self.ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Sample]:
        for part in self.parts:
            yield from part


def images_of(samples: Iterable[Sample]) -> Iterator[Path | io.BytesIO | ImageError]:
    """Yield the input of ``open_image`` for each sample, or its error."""
    for sample in samples:
        try:
            yield sample.image()
        except ImageError as error:
            yield error


def chosen(samples: Sequence[Sample], indices: Iterable[int]) -> Sequence[Sample]:
    """Return the samples at these indices: a list, or a ``Part`` of lazy ``samples``."""
    return Part(samples, indices) if isinstance(samples, Samples) else [samples[index] for index in indices]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
