"""Unpacking of zip members with size limits, without trusting their headers.

Python's ``zipfile`` only lists them: its output for bzip2 and lzma members has no limit.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from captioner.data.items import MAX_BYTES, span, too_large
from captioner.data.tars import BOMB, Bounded, Damaged, is_bomb

_STEP = 1 << 20


def listed(path: Path) -> list[zipfile.ZipInfo]:
    """Return the members in the directory of a zip."""
    with path.open("rb") as file, zipfile.ZipFile(Bounded(file)) as archive:  # type: ignore[arg-type]
        return archive.infolist()


def problem_of(member: zipfile.ZipInfo) -> str:
    """Return the reason why a member cannot be unpacked; empty if it can."""
    if member.flag_bits & 1:
        return "it is encrypted; unpack the archive with its password first"
    if member.file_size > MAX_BYTES:
        return str(too_large(member.file_size))
    if is_bomb(member.compress_size, member.file_size):
        return BOMB
    return ""


def unzip(path: Path, member: zipfile.ZipInfo) -> bytes:
    """Return the content of a member. Raises ``Damaged`` if its size or checksum differs from its header."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\3\4":
            raise Damaged("no member at its offset")
        lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        file.seek(lengths, io.SEEK_CUR)  # of the name and of the extra fields
        content = _content(file, member)
    if len(content) != member.file_size:
        raise Damaged("a member of another size than its header says")
    if zlib.crc32(content) != member.CRC:
        raise Damaged("Bad CRC-32")
    return content


def _content(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    left = member.compress_size
    if member.compress_type == zipfile.ZIP_STORED:
        return span(file, file.tell(), min(left, member.file_size))
    if member.compress_type == zipfile.ZIP_LZMA:
        head = file.read(9)  # version, length of the properties, the properties
        left -= 9
        decoder = _lzma(head, member.file_size)
    else:
        decoder = _decoder(member.compress_type)
    content = io.BytesIO()  # getvalue() makes no copy
    while content.tell() <= member.file_size and not decoder.eof:
        part = b""
        if decoder.needs_input:
            part = file.read(max(0, min(left, 1 << 16)))
            left -= len(part)
        out = decoder.decompress(part, _STEP)
        content.write(out)
        if not part and not out:
            break
    return content.getvalue()


def _decoder(kind: int) -> Any:
    if kind == zipfile.ZIP_DEFLATED:
        return _Inflate()
    if kind == zipfile.ZIP_BZIP2:
        import bz2

        return bz2.BZ2Decompressor()
    raise NotImplementedError


def _lzma(head: bytes, size: int) -> Any:
    """Return a decoder for the five bytes of properties, with a dictionary no larger than the member."""
    import lzma

    if len(head) < 9 or head[2:4] != b"\5\0" or head[4] >= 9 * 5 * 5:
        raise Damaged("invalid lzma properties")
    lc, lp, pb = head[4] % 9, head[4] // 9 % 5, head[4] // 45
    longest = max(4096, min(int.from_bytes(head[5:9], "little"), size))
    properties = {"id": lzma.FILTER_LZMA1, "dict_size": longest, "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[properties])


class _Inflate:
    """A deflate decoder with the interface of the other two decoders."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def needs_input(self) -> bool:
        return not self.inner.unconsumed_tail

    def decompress(self, part: bytes, most: int) -> bytes:
        return self.inner.decompress(self.inner.unconsumed_tail + part, most)
