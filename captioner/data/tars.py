"""Tar files as streams in which a hostile or damaged one loses nothing in silence, and takes no memory or time.

Python's ``tarfile`` is not used: it follows sizes below zero back to where it was, without end, keeps extended headers
of any size and nests them, and searches them in quadratic time.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from captioner.data.items import Refused

MAX_STREAMED = 64 << 20
"""Bytes of one member that are read at once."""
MAX_RATIO = 200
"""How many times its size an archive may unpack to: photos hardly shrink at all, a bomb a thousandfold."""
FREE = 64 << 20  # bytes, below which the ratio is not looked at: a small blank picture shrinks as well as a bomb
BOMB = f"it unpacks to more than {MAX_RATIO} times its size, as no photos do"
MAX_HEADER = 1 << 20
"""Bytes of one extended header: it holds a long name, and attributes of the file system."""
MAX_NAME = 1 << 12  # bytes: no system has longer ones
MAX_EXTRA = 16  # extended headers before one member
_BLOCK = 512
_MAX_SIZE = 1 << 60
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes


class Damaged(Exception):
    """The archive is not what it should be; what was found before stays found."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file in a tar: its name, with bytes that are not UTF-8 as surrogates, and the place of its content."""

    name: str
    offset: int
    size: int


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
    """A stream that a hostile archive cannot make anyone read into memory, nor unpack without end."""

    def __init__(self, stream: IO[bytes], packed: IO[bytes] | None = None) -> None:
        self.stream, self.packed = stream, packed

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_STREAMED:
            size = self._left()
            if size > MAX_STREAMED:
                raise Damaged("a header of many megabytes")
        data = self.stream.read(size)
        if self.packed is not None and is_bomb(self.packed.tell(), self.stream.tell()):
            raise Refused(BOMB)
        return data

    def _left(self) -> int:
        """Return how much there is to read: nothing is made room for that is not there."""
        if self.packed is not None:
            return MAX_STREAMED + 1
        place = self.stream.tell()
        left = self.stream.seek(0, io.SEEK_END) - place
        self.stream.seek(place)
        return left

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


def members(stream: Bounded) -> Iterator[Member]:
    """Yield the regular files of a tar in their order; the stream may be read between them.

    Names of any format are understood (ustar, GNU, PAX); sparse files are left out. A header that is damaged or cut
    off, wherever it stands, raises ``Damaged``.
    """
    place = 0
    while (block := _block(stream, place)) is not None:
        place += _BLOCK
        name, size, sparse, extra = "", -1, False, 0
        while (kind := block[156:157]) in (b"L", b"K", b"x", b"X", b"g"):  # what they say holds for the next member
            extra += 1
            length = _number(block[124:136])
            if length > MAX_HEADER:
                raise Damaged("a header of many megabytes")
            if extra > MAX_EXTRA:
                raise Damaged("too many headers of one file")
            said = _content(stream, place, length)
            place += _padded(length)
            if kind == b"L":
                name = _text(said)
            elif kind in (b"x", b"X"):
                records = dict(_records(said))
                name = _text(records[b"path"]) if b"path" in records else name
                size = _decimal(records[b"size"]) if b"size" in records else size
                sparse = sparse or any(key.startswith(b"GNU.sparse.") for key in records)
            following = _block(stream, place)
            if following is None:
                raise Damaged("a header without its file")
            block = following
            place += _BLOCK
        size = _number(block[124:136]) if size < 0 else size
        if size > _MAX_SIZE:
            raise Damaged("a size that no file has")
        name = name or _short_name(block)
        if kind == b"S":
            place = _behind_map(stream, place, block)
        elif kind in _REGULAR and not sparse and not (kind == b"\0" and name.endswith("/")):
            yield Member(name=name, offset=place, size=size)
        if kind not in _WITHOUT_DATA and size:
            place += _padded(size)
            stream.seek(place - 1)
            if not stream.read(1):
                raise Damaged("unexpected end of data")


def _block(stream: Bounded, place: int) -> bytes | None:
    """Return the header at a place; None where the archive has its proper end."""
    stream.seek(place)
    block = stream.read(_BLOCK)
    if not block and place:
        return None
    if len(block) < _BLOCK:
        raise Damaged("a header that is cut off" if block else "empty file")
    if not block.strip(b"\0"):
        return None
    rest = block[:148] + b" " * 8 + block[156:]
    told = _number(block[148:156])
    if told != sum(rest) and told != sum(rest) - 256 * sum(byte > 127 for byte in rest):  # some count signed bytes
        raise Damaged("bad checksum")
    return block


def _behind_map(stream: Bounded, place: int, block: bytes) -> int:
    """Return the place behind the blocks in which GNU tar goes on with the map of a sparse file."""
    more = block[482]
    while more:
        stream.seek(place)
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise Damaged("unexpected end of data")
        place, more = place + _BLOCK, block[504]
    return place


def _content(stream: Bounded, place: int, length: int) -> bytes:
    stream.seek(place)
    said = stream.read(length)
    if len(said) < length:
        raise Damaged("unexpected end of data")
    return said


def _records(said: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a PAX header: ``LENGTH KEY=VALUE`` in lines, the length with all that is in one."""
    place = 0
    while place < len(said) and said[place]:
        space = said.find(b" ", place, place + 8)
        end = place + (_decimal(said[place:space]) if space > place else 0)
        if not place <= space < end <= len(said) or said[end - 1 : end] != b"\n":
            raise Damaged("invalid header")
        key, _, value = said[space + 1 : end - 1].partition(b"=")
        yield key, value
        place = end


def _number(field: bytes) -> int:
    """Return a number of a header: octal, or binary where the first bit is set (GNU), then never below zero."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.match(field)
    if found is None or (found.end() < len(field) and b"\0" not in field[: found.end() + 1]):
        raise Damaged("invalid header")
    return int(found[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise Damaged("invalid header")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _short_name(block: bytes) -> str:
    name, prefix = block[:100], block[345:500].partition(b"\0")[0]
    return _text(prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name)


def _text(name: bytes) -> str:
    name = name.partition(b"\0")[0]
    if len(name) > MAX_NAME:
        raise Damaged("a name of many kilobytes")
    return name.decode("utf-8", "surrogateescape")
