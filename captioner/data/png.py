"""PNG files whose texts or profile are larger than Pillow accepts, which then refuses the picture with them."""

from __future__ import annotations

import io
from typing import BinaryIO

from captioner.data.bounds import MAX_WHOLE
from captioner.data.items import too_large

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")


def is_overfull(error: Exception) -> bool:
    """Whether Pillow has refused a PNG for its texts (1 MB unpacked each, 64 MB all) or its profile (1 MB)."""
    return isinstance(error, ValueError) and ("data too large" in str(error) or "memory used in text" in str(error))


def without_texts(stream: BinaryIO) -> io.BytesIO:
    """Return the picture alone with its orientation; what is damaged stays so. Raises ``Refused`` where it is huge."""
    stream.seek(len(_SIGNATURE))
    kept = io.BytesIO()
    kept.write(_SIGNATURE)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4], "big") + 4  # the checksum's 4 bytes too
        if head[4:] in _PICTURE:
            if kept.tell() + length > MAX_WHOLE:
                raise too_large(kept.tell() + length)
            kept.write(head + stream.read(length))
        else:
            stream.seek(length, io.SEEK_CUR)
    kept.seek(0)
    return kept
