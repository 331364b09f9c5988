"""Conversion of any decoded PIL image to upright 8-bit sRGB, by the rules of ``images.open_image``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, cast

from PIL import Image, ImageCms

_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FROM_RIGHT = {_TO_UPRIGHT[number] for number in (2, 3, 7, 8)}  # the first column is the rightmost one
_FROM_BELOW = {_TO_UPRIGHT[number] for number in (3, 4, 6, 7)}
_ON_ITS_SIDE = {_TO_UPRIGHT[number] for number in (5, 6, 7, 8)}
_ORIENTATION_TAG, _WIDTH_TAG, _LENGTH_TAG = 0x0112, 0x0100, 0x0101
TILE = 1 << 20
"""Pixels per conversion step."""


def to_rgb(image: Image.Image, *, keep: bool = True) -> Image.Image:
    """Return a new RGB image, without metadata, so that the next reader does not apply orientation or profile again.

    Unless ``keep``, it may share the pixels of ``image``. Otherwise it is converted tile by tile, so that memory never
    holds a third copy of a large image.
    """
    turn = _TO_UPRIGHT.get(_orientation(image))
    convert = _conversion(image)
    if convert is None and turn is None:
        rgb = image.copy() if keep else image._new(image.im)  # a plain Image instead of the format's subclass
        rgb.info = {}
        return rgb
    rgb = Image.new("RGB", upright_size(image))
    for box in _tiles(image.size):
        tile = image.crop(box)
        tile = tile if convert is None else convert(tile)
        rgb.paste(tile if turn is None else tile.transpose(turn), _place(box, image.size, turn))
    return rgb


def _tiles(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    columns = min(size[0], TILE)
    rows = max(1, TILE // columns)
    for top in range(0, size[1], rows):
        for left in range(0, size[0], columns):
            yield left, top, min(left + columns, size[0]), min(top + rows, size[1])


def _place(box: tuple[int, int, int, int], size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Return the position of a tile's upper left corner in the upright image."""
    (left, top, right, bottom), (width, height) = box, size
    x = width - right if turn in _FROM_RIGHT else left
    y = height - bottom if turn in _FROM_BELOW else top
    return (y, x) if turn in _ON_ITS_SIDE else (x, y)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) of the result of ``to_rgb``, without reading pixels."""
    if _orientation(image) < 5:
        return image.size
    tags = getattr(image, "tag_v2", None)  # of a TIFF, whose size newer Pillows turn before they read the pixels
    stored = image.size if tags is None else (tags.get(_WIDTH_TAG), tags.get(_LENGTH_TAG))
    return image.size[::-1] if stored == image.size else image.size


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 5 and above swap width and height."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
        return int(value) if value in _TO_UPRIGHT else 1
    except Exception:  # ignore damaged metadata
        return 1


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """Return the function that converts a tile to sRGB; None if the image is RGB already."""
    opaque = _eight_bits(image) if image.mode[0] in "IF" else _opaque
    mode = opaque(image.crop((0, 0, 1, 1))).mode
    transform = _to_srgb(mode, image.info.get("icc_profile"))
    if transform is None and image.mode == "RGB" and not image.has_transparency_data:
        return None

    def convert(tile: Image.Image) -> Image.Image:
        tile = opaque(tile)
        if transform is not None:
            return cast(Image.Image, ImageCms.applyTransform(tile, transform))
        return tile.convert("RGB")

    return convert


def _opaque(image: Image.Image) -> Image.Image:
    """Return the image as L, RGB, CMYK or LAB, without transparency."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
        white.paste(rgba.convert(white.mode), mask=rgba.getchannel("A"))
        return white
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return the function that converts a tile to 8 bits, by the range of the whole image."""
    import numpy as np

    low, high = float("inf"), float("-inf")
    for box in _tiles(image.size):
        values = np.asarray(image.crop(box))
        values = _finite(values) if image.mode == "F" else values
        low, high = min(low, float(values.min())), max(high, float(values.max()))

    def divided(tile: Image.Image) -> Image.Image:
        return Image.fromarray(((np.asarray(tile).astype(np.uint32) + 128) // 257).astype(np.uint8))

    def stretched(tile: Image.Image) -> Image.Image:
        scaled = (_finite(np.asarray(tile)) - low) * (255 / (high - low) if high > low else 0)
        return Image.fromarray(np.rint(scaled).astype(np.uint8))

    if image.mode != "F" and low >= 0 and high <= 0xFFFF:
        return divided
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return stretched


def _finite(values: Any) -> Any:
    import numpy as np

    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _to_srgb(mode: str, profile: object) -> Any:
    """Return the transform from a profile to sRGB; None without a profile, and for sRGB or an invalid one."""
    try:
        if mode == "LAB":
            source: Any = ImageCms.createProfile("LAB")
        elif isinstance(profile, bytes):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            described = ImageCms.getProfileDescription(source).strip().lower()
            if described.startswith("srgb") and "linear" not in described:
                return None
        else:
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        if mode == "LAB":
            raise
        return None
