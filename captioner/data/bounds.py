"""Memory limits for reading one image: for its pixels, and for other data in its file.

The limits are 8 bytes per allowed pixel (1.6 GB for 200 megapixels: the decoded image and its RGB copy), and a few
hundred megabytes for the file. Formats whose decoders need more memory per pixel are limited to fewer pixels.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

from PIL import Image

from captioner.data.items import Refused, too_large

BYTES = 8
"""Bytes of memory per allowed pixel."""
MAX_BESIDE = 128 << 20
"""Most bytes to read besides pixels: texts, profiles, previews, layers."""
MAX_WHOLE = 256 << 20
"""Largest file of a format that is read into memory as a whole, in bytes."""

# Bytes per pixel of the decoders, measured with Pillow 13.0 by resident memory. An animation's decoder (WebP) keeps two
# canvases and returns a third copy; JPEG 2000 decodes into 32-bit integers.
_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 12, "JPEG2000": 26}
_WHOLE = ("WEBP", "AVIF", "HEIF", "ICO")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")  # of the image and its orientation
_TILE_WIDTH, _TILE_LENGTH, _ROWS_PER_STRIP = 322, 323, 278


class BoundedFile:
    """A file with a limit of ``MAX_BESIDE`` bytes to read before and after its pixels, while ``left`` is a number."""

    def __init__(self, stream: BinaryIO, form: str) -> None:
        self.stream = stream
        self.left: int | None = MAX_BESIDE
        if form in _WHOLE:
            self.left = MAX_WHOLE
            position = stream.tell()
            size = stream.seek(0, os.SEEK_END)
            stream.seek(position)
            if size > MAX_WHOLE:
                raise too_large(size)

    def read(self, size: int = -1) -> bytes:
        if self.left is None:
            return self.stream.read(size)
        data = self.stream.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise Refused(f"its metadata is larger than {MAX_BESIDE / 1e6:.0f} MB; save it without metadata")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def load(image: Image.Image) -> None:
    """Decode an image; if its file is ``BoundedFile``, lift the limit for the pixels and restore it after them."""
    watched = getattr(image, "fp", None)
    if not isinstance(watched, BoundedFile):
        image.load()
        return
    watched.left = None
    end = image.load_end  # type: ignore[attr-defined]

    def ended() -> None:
        watched.left = MAX_BESIDE
        end()

    image.load_end = ended  # type: ignore[attr-defined]
    try:
        image.load()
    finally:
        del image.load_end  # type: ignore[attr-defined]  # breaks the reference cycle


def free_buffers(image: Image.Image) -> None:
    """Free the buffers that a decoder keeps for further frames: canvases and a copy."""
    if image.format in ("WEBP", "AVIF"):
        image.fp = None  # type: ignore[attr-defined]
        image._decoder = None  # type: ignore[attr-defined]


def check_pixels(image: Image.Image, max_pixels: int, *, whole: tuple[int, int] | None = None) -> None:
    """Refuse an image whose decoding would take more than ``BYTES`` for each of ``max_pixels``.

    ``whole``: the size in the file, if it is decoded at a smaller scale.
    """
    width, height = whole or image.size
    if not width or not height:
        raise Refused("it has no pixels")
    cost = _cost(image, drafted=whole is not None and whole != image.size)
    most = max_pixels * BYTES // max(BYTES, cost)
    if width * height > most:
        size = f"{width} x {height}"
        kind = f" of this kind of {image.format}" if most < max_pixels else ""
        raise Refused(f"its {size} pixels exceed the limit of {most / 1e6:g} megapixels{kind}")


def has_long_texts(error: Exception) -> bool:
    """Return whether Pillow refused a PNG for its texts (1 MB unpacked each, 64 MB in total) or its profile (1 MB)."""
    return isinstance(error, ValueError) and ("data too large" in str(error) or "memory used in text" in str(error))


def without_texts(stream: BinaryIO) -> io.BytesIO:
    """Return the PNG with only its image and orientation. Raises ``Refused`` if it is too large."""
    stream.seek(len(_PNG))
    kept = io.BytesIO()
    kept.write(_PNG)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4], "big") + 4  # with the 4 bytes of the checksum
        if head[4:] in _PNG_CHUNKS:
            if kept.tell() + length > MAX_WHOLE:
                raise too_large(kept.tell() + length)
            kept.write(head + stream.read(length))
        else:
            stream.seek(length, io.SEEK_CUR)
    kept.seek(0)
    return kept


def _cost(image: Image.Image, *, drafted: bool) -> int:
    """Return the bytes per pixel of the decoder."""
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        return 2 * len(image.getbands()) + (0 if drafted else 4)  # the coefficients of all scans, and the pixels
    if image.format == "TIFF" and image.tile and image.tile[0][0] == "libtiff":  # type: ignore[attr-defined]
        tile = _tile_pixels(image)
        if tile > max(image.width * image.height, 1 << 24):
            raise Refused("its tiles are larger than the image")
        return 4 + -(-8 * tile // (image.width * image.height)) if tile > 1 << 22 else BYTES
    return _PER_PIXEL.get(image.format or "", BYTES)


def _tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a tile or strip of a TIFF, which is decoded in addition to the image."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _TILE_WIDTH in tags and _TILE_LENGTH in tags:
        return int(tags[_TILE_WIDTH]) * int(tags[_TILE_LENGTH])
    rows = tags.get(_ROWS_PER_STRIP, image.height)
    return image.width * min(image.height, int(rows))
