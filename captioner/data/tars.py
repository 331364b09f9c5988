"""Tar files as streams in which a hostile or damaged one loses nothing in silence, and takes no memory or time."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
from typing import IO, Any, cast

from captioner.data.items import Refused

MAX_STREAMED = 64 << 20
"""Bytes of one member that are read at once."""
MAX_RATIO = 200
"""How many times its size an archive may unpack to: photos hardly shrink at all, a bomb a thousandfold."""
FREE = 64 << 20  # bytes, below which the ratio is not looked at: a small blank picture shrinks as well as a bomb
BOMB = f"it unpacks to more than {MAX_RATIO} times its size, as no photos do"


def is_bomb(packed: int, unpacked: int) -> bool:
    return unpacked > max(FREE, MAX_RATIO * packed)


def unpacked(file: IO[bytes]) -> tuple[Bounded, bool]:
    """A stream of the tar itself, and whether it had been compressed."""
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return Bounded(cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb")), file), True
    if start[:3] == b"BZh":
        return Bounded(cast(IO[bytes], bz2.BZ2File(file)), file), True
    if start in (b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd" + start[4:]):
        raise Refused("it is compressed by xz or zstd; unpack it to a plain tar first")
    return Bounded(file, None), False


class Bounded(io.RawIOBase):
    """A stream for ``tarfile`` that a hostile archive cannot make it read into memory, nor unpack without end."""

    def __init__(self, stream: IO[bytes], packed: IO[bytes] | None) -> None:
        self.stream, self.packed = stream, packed

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_STREAMED:
            raise tarfile.ReadError("a header of many megabytes")
        data = self.stream.read(size)
        if self.packed is not None and is_bomb(self.packed.tell(), self.stream.tell()):
            raise Refused(BOMB)
        return data

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if self.packed is None or whence != io.SEEK_SET or place <= self.stream.tell():
            return self.stream.seek(place, whence)
        while (left := place - self.stream.tell()) > 0 and self.read(min(left, 1 << 20)):
            pass
        return self.stream.tell()

    def tell(self) -> int:
        return self.stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class StrictHeader(tarfile.TarInfo):
    """A header that is damaged or cut off is an error wherever it stands: ``tarfile`` takes all but the first of them
    for the end of the archive, and what follows would be lost in silence."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ in ("InvalidHeaderError", "TruncatedHeaderError"):
                raise tarfile.ReadError(str(error)) from None
            raise  # what stands at a proper end


class StrictTar(tarfile.TarFile):
    tarinfo = StrictHeader

    @classmethod
    def over(cls, stream: Bounded) -> StrictTar:
        return cls(fileobj=cast(IO[bytes], stream), errors="surrogateescape")
