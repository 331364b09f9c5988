"""The one form in which every reader hands over data: an image and its captions; and sequences too long to be held."""

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
    """One image with all its captions, in the dataset's order.

    ``name`` identifies the image inside its dataset (the file name as the annotation wrote it) and decides splits;
    ``id`` is the number that the annotation gives it, which files of results know it by. ``span`` is (offset, bytes)
    of an image that lies inside the file at ``path``, in a tar; else None.
    """

    name: str
    path: Path
    captions: tuple[str, ...]
    id: str = ""
    span: tuple[int, int] | None = None

    def image(self) -> Path | io.BytesIO:
        """What ``open_image`` takes. Raises ``ImageError`` where the file around the image cannot be read."""
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
    """The bytes of a file that lies in another one, with the ``name`` that messages call it by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class Samples(Sequence[Sample]):
    """Samples that are made when they are asked for. ``fingerprint`` changes with any name, caption or place."""

    fingerprint: str

    def at(self, place: int) -> Sample:
        """The sample of a place from 0 on."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...

    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return [self.at(index) for index in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"there is no sample {place} of {len(self)}")
        return self.at(place % len(self))


class Part(Samples):
    """Some of the samples, by their places: four bytes for each."""

    def __init__(self, whole: Samples, places: Iterable[int]) -> None:
        self.whole, self.places = whole, array("I", places)
        self.fingerprint = _digest(whole.fingerprint.encode() + self.places.tobytes())

    def __len__(self) -> int:
        return len(self.places)

    def at(self, place: int) -> Sample:
        return self.whole.at(self.places[place])


class Joined(Samples):
    """Several sequences of samples, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))
        prints = [part.fingerprint if isinstance(part, Samples) else repr(list(part)) for part in parts]
        self.fingerprint = _digest("\n".join(prints).encode("utf-8", "surrogatepass"))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def at(self, place: int) -> Sample:
        part = bisect_right(self.ends, place)
        return self.parts[part][place - (self.ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Sample]:
        for part in self.parts:
            yield from part


def images_of(samples: Iterable[Sample]) -> Iterator[Path | io.BytesIO | ImageError]:
    """What to open for each sample, or why it cannot be, in its place."""
    for sample in samples:
        try:
            yield sample.image()
        except ImageError as error:
            yield error


def chosen(samples: Sequence[Sample], places: Iterable[int]) -> Sequence[Sample]:
    """The samples of these places: a list, or what takes little memory where ``samples`` does."""
    return Part(samples, places) if isinstance(samples, Samples) else [samples[place] for place in places]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
