"""Removal of texts and profiles that make Pillow refuse a PNG because of their size."""

from __future__ import annotations

import io
from typing import BinaryIO

from captioner.data.bounds import MAX_WHOLE
from captioner.data.items import too_large

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")


def is_overfull(error: Exception) -> bool:
    """Return whether Pillow refused a PNG for its texts (1 MB unpacked each, 64 MB in total) or its profile (1 MB)."""
    return isinstance(error, ValueError) and ("data too large" in str(error) or "memory used in text" in str(error))


def without_texts(stream: BinaryIO) -> io.BytesIO:
    """Return the PNG with only its image and orientation. Raises ``Refused`` if it is too large."""
    stream.seek(len(_SIGNATURE))
    kept = io.BytesIO()
    kept.write(_SIGNATURE)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4], "big") + 4  # with the 4 bytes of the checksum
        if head[4:] in _PICTURE:
            if kept.tell() + length > MAX_WHOLE:
                raise too_large(kept.tell() + length)
            kept.write(head + stream.read(length))
        else:
            stream.seek(length, io.SEEK_CUR)
    kept.seek(0)
    return kept
