"""A reader of tar streams that reports all damage, and limits memory and time for hostile archives.

Python's ``tarfile`` is unsuitable: it loops forever on negative sizes, and accepts nested extended headers of any size,
which it searches in quadratic time.
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
"""Size limit of a single read, in bytes."""
MAX_RATIO = 200
"""Largest compression ratio: photos hardly compress, a bomb a thousandfold."""
FREE = 64 << 20  # bytes without a check of the ratio: a small blank image compresses as well as a bomb
BOMB = f"it unpacks to more than {MAX_RATIO} times its size, as no photos do"
MAX_HEADER = 1 << 20
"""Size limit of an extended header, in bytes; it holds a long name and attributes of the file system."""
MAX_NAME = 1 << 12  # bytes, the limit of all systems
MAX_EXTRA = 16  # extended headers before one member
_BLOCK = 512
_MAX_SIZE = 1 << 60
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes


class Damaged(Exception):
    """A damaged archive; members before the damage remain valid."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file in a tar."""

    name: str  # bytes that are not UTF-8 are surrogate escapes
    offset: int  # of the content, in bytes
    size: int


def is_bomb(packed: int, unpacked: int) -> bool:
    return unpacked > max(FREE, MAX_RATIO * packed)


def unpacked(file: IO[bytes]) -> tuple[Bounded, bool]:
    """Return a stream of the uncompressed tar, and whether the file is compressed."""
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
    """A stream with limits on the size of a read and on the compression ratio."""

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
        """Return the number of remaining bytes, so that no more memory is allocated."""
        if self.packed is not None:
            return MAX_STREAMED + 1
        position = self.stream.tell()
        left = self.stream.seek(0, io.SEEK_END) - position
        self.stream.seek(position)
        return left

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if self.packed is None or whence != io.SEEK_SET or position <= self.stream.tell():
            return self.stream.seek(position, whence)
        while (left := position - self.stream.tell()) > 0 and self.read(min(left, 1 << 20)):
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

    Supports the names of all formats (ustar, GNU, PAX) and skips sparse files. Raises ``Damaged`` for a damaged or
    truncated header at any position.
    """
    position = 0
    while (block := _block(stream, position)) is not None:
        position += _BLOCK
        name, size, sparse, extra = "", -1, False, 0
        while (kind := block[156:157]) in (b"L", b"K", b"x", b"X", b"g"):  # extended headers of the next member
            extra += 1
            length = _number(block[124:136])
            if length > MAX_HEADER:
                raise Damaged("a header of many megabytes")
            if extra > MAX_EXTRA:
                raise Damaged("too many headers of one file")
            content = _content(stream, position, length)
            position += _padded(length)
            if kind == b"L":
                name = _text(content)
            elif kind in (b"x", b"X"):
                records = dict(_records(content))
                name = _text(records[b"path"]) if b"path" in records else name
                size = _decimal(records[b"size"]) if b"size" in records else size
                sparse = sparse or any(key.startswith(b"GNU.sparse.") for key in records)
            following = _block(stream, position)
            if following is None:
                raise Damaged("a header without its file")
            block = following
            position += _BLOCK
        size = _number(block[124:136]) if size < 0 else size
        if size > _MAX_SIZE:
            raise Damaged("an impossible size")
        name = name or _short_name(block)
        if kind == b"S":
            position = _behind_map(stream, position, block)
        elif kind in _REGULAR and not sparse and not (kind == b"\0" and name.endswith("/")):
            yield Member(name=name, offset=position, size=size)
        if kind not in _WITHOUT_DATA and size:
            position += _padded(size)
            stream.seek(position - 1)
            if not stream.read(1):
                raise Damaged("unexpected end of data")


def _block(stream: Bounded, position: int) -> bytes | None:
    """Return the header at a position; None at the proper end of the archive."""
    stream.seek(position)
    block = stream.read(_BLOCK)
    if not block and position:
        return None
    if len(block) < _BLOCK:
        raise Damaged("a truncated header" if block else "empty file")
    if not block.strip(b"\0"):
        return None
    rest = block[:148] + b" " * 8 + block[156:]
    checksum = _number(block[148:156])
    # Some programs sum signed bytes.
    if checksum != sum(rest) and checksum != sum(rest) - 256 * sum(byte > 127 for byte in rest):
        raise Damaged("bad checksum")
    return block


def _behind_map(stream: Bounded, position: int, block: bytes) -> int:
    """Return the position after the extension blocks of a sparse file's map (GNU tar)."""
    more = block[482]
    while more:
        stream.seek(position)
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise Damaged("unexpected end of data")
        position, more = position + _BLOCK, block[504]
    return position


def _content(stream: Bounded, position: int, length: int) -> bytes:
    stream.seek(position)
    content = stream.read(length)
    if len(content) < length:
        raise Damaged("unexpected end of data")
    return content


def _records(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a PAX header: lines of ``LENGTH KEY=VALUE``, with the length of the whole line."""
    start = 0
    while start < len(header) and header[start]:
        space = header.find(b" ", start, start + 8)
        end = start + (_decimal(header[start:space]) if space > start else 0)
        if not start <= space < end <= len(header) or header[end - 1 : end] != b"\n":
            raise Damaged("invalid header")
        key, _, value = header[space + 1 : end - 1].partition(b"=")
        yield key, value
        start = end


def _number(field: bytes) -> int:
    """Return a number of a header: octal, or binary and non-negative if the first bit is set (GNU)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.match(field)
    if match is None or (match.end() < len(field) and b"\0" not in field[: match.end() + 1]):
        raise Damaged("invalid header")
    return int(match[1] or b"0", 8)


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
