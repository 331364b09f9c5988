"""From any decoded PIL image to upright 8-bit RGB in sRGB; the rules stand in ``images.open_image``."""

from __future__ import annotations

import io
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
_ORIENTATION_TAG = 0x0112


def to_rgb(image: Image.Image, *, keep: bool = True) -> Image.Image:
    """A new RGB image without metadata, else its orientation or profile would be applied again by the next reader.

    Where ``image`` need not be kept its pixels may become those of the new one, which halves the memory of large ones.
    """
    profile = image.info.get("icc_profile")
    rgb = _to_srgb(_opaque(_upright(image)), profile)
    if rgb is image:
        rgb = image.copy() if keep else image._new(image.im)  # a plain image, whatever the format's own class
    rgb.info = {}
    return rgb


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as ``to_rgb`` will have it; reads no pixels."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _upright(image: Image.Image) -> Image.Image:
    transpose = _TO_UPRIGHT.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """1 to 8; 5 and above lie on their side."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
        return int(value) if value in _TO_UPRIGHT else 1
    except Exception:  # damaged metadata is no reason to refuse the picture
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """L, RGB, CMYK or LAB without transparency."""
    if image.mode[0] in "IF":
        return _to_eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        paper = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
        paper.paste(rgba.convert(paper.mode), mask=rgba.getchannel("A"))
        return paper
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    import numpy as np

    values: np.ndarray[Any, Any] = np.asarray(image)
    if image.mode != "F" and values.min() >= 0 and values.max() <= 0xFFFF:
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    try:
        if image.mode == "LAB":
            source: Any = ImageCms.createProfile("LAB")
        elif isinstance(profile, bytes):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            described = ImageCms.getProfileDescription(source).strip().lower()
            if described.startswith("srgb") and "linear" not in described:
                return image.convert("RGB") if image.mode != "RGB" else image
        else:
            return image.convert("RGB") if image.mode != "RGB" else image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return cast(Image.Image, converted)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        if image.mode == "LAB":
            raise
        return image.convert("RGB")
