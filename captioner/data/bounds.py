"""Bounds of the memory that reading one image takes: of its pixels, and of what its file holds beside them.

All of it is bounded by 8 bytes for each pixel that is allowed (1.6 GB for 200 megapixels: the decoded image and the
RGB one that is made of it), and a few hundred megabytes for the file. Formats whose decoders need more for a pixel
may have fewer of them.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from PIL import Image

from captioner.data.items import Refused, too_large

BYTES = 8
"""Bytes of memory for each pixel that is allowed."""
MAX_BESIDE = 128 << 20
"""Bytes that are read of a file beside its pixels: texts, profiles, previews, layers."""
MAX_WHOLE = 256 << 20
"""Bytes of a file whose format is read into memory as a whole."""

# Bytes that decoders take for a pixel, measured with Pillow 13.0 by resident memory. An animation's decoder (WebP)
# keeps two canvases and hands over a third copy; JPEG 2000 decodes into integers of 32 bits.
_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 12, "JPEG2000": 26}
_WHOLE = ("WEBP", "AVIF", "HEIF", "ICO")
_TILE_WIDTH, _TILE_LENGTH, _ROWS_PER_STRIP = 322, 323, 278


class Watched:
    """A file of which no more than ``MAX_BESIDE`` is read while ``left`` is a number: before and after its pixels."""

    def __init__(self, stream: BinaryIO, form: str) -> None:
        self.stream = stream
        self.left: int | None = MAX_BESIDE
        if form in _WHOLE:
            self.left = MAX_WHOLE
            place = stream.tell()
            size = stream.seek(0, os.SEEK_END)
            stream.seek(place)
            if size > MAX_WHOLE:
                raise too_large(size)

    def read(self, size: int = -1) -> bytes:
        if self.left is None:
            return self.stream.read(size)
        data = self.stream.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise Refused(f"what it holds beside its pixels is more than {MAX_BESIDE / 1e6:.0f} MB; save it without")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def load(image: Image.Image) -> None:
    """Decode an image that ``Watched`` its file; what follows its pixels counts again."""
    watched = getattr(image, "fp", None)
    if not isinstance(watched, Watched):
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
        del image.load_end  # type: ignore[attr-defined]  # it holds the image, and the image it


def let_go(image: Image.Image) -> None:
    """Free what a decoder keeps when the pixels are there: canvases, and a copy, for frames that nobody reads."""
    if image.format in ("WEBP", "AVIF"):
        image.fp = None  # type: ignore[attr-defined]
        image._decoder = None  # type: ignore[attr-defined]


def check_pixels(image: Image.Image, max_pixels: int, *, whole: tuple[int, int] | None = None) -> None:
    """Refuse an image whose decoding would take more than ``BYTES`` for each of ``max_pixels``.

    ``whole`` is the size in the file, where less of it is decoded.
    """
    width, height = whole or image.size
    if not width or not height:
        raise Refused("it has no pixels")
    each = _cost(image, drafted=whole is not None and whole != image.size)
    most = max_pixels * BYTES // max(BYTES, each)
    if width * height > most:
        size = f"{width} x {height}"
        kind = f" of this kind of {image.format}" if most < max_pixels else ""
        raise Refused(f"its {size} pixels are more than the limit of {most / 1e6:g} megapixels{kind}")


def _cost(image: Image.Image, *, drafted: bool) -> int:
    """Return the bytes that the decoder takes for a pixel."""
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        return 2 * len(image.getbands()) + (0 if drafted else 4)  # the coefficients of all scans, and the pixels
    if image.format == "TIFF" and image.tile and image.tile[0][0] == "libtiff":  # type: ignore[attr-defined]
        part = _part(image)
        if part > max(image.width * image.height, 1 << 24):
            raise Refused("its tiles are larger than itself")
        return 4 + -(-8 * part // (image.width * image.height)) if part > 1 << 22 else BYTES
    return _PER_PIXEL.get(image.format or "", BYTES)


def _part(image: Image.Image) -> int:
    """Return the pixels of a TIFF that are decoded at once, beside the image itself."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _TILE_WIDTH in tags and _TILE_LENGTH in tags:
        return int(tags[_TILE_WIDTH]) * int(tags[_TILE_LENGTH])
    rows = tags.get(_ROWS_PER_STRIP, image.height)
    return image.width * min(image.height, int(rows))
