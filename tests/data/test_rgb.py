"""Conversion by tiles equals conversion of the whole image, for any mode, profile and orientation."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from captioner.data import rgb

SIZE = (23, 17)
NOISE = Image.frombytes("L", SIZE, random.Random(0).randbytes(23 * 17))
PHOTO = Image.merge("RGB", (NOISE, NOISE.rotate(180), NOISE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))


def profile(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def images() -> dict[str, Image.Image]:
    found = {mode: PHOTO.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "LA", "PA")}
    found["RGBA"], found["F"], found["I"] = PHOTO.convert("RGBA"), NOISE.convert("F"), NOISE.convert("I")
    found["RGBA"].putalpha(NOISE)
    found["I;16"] = Image.fromarray(np.asarray(NOISE).astype(np.uint16) * 200)
    found["small floats"] = Image.fromarray(np.asarray(NOISE).astype(np.float32) / 255)
    values = np.asarray(NOISE).astype(np.float32).copy()
    values[3, 4], values[5, 6], values[7, 8] = np.nan, np.inf, -400
    found["strange floats"] = Image.fromarray(values)
    for name, transparency in (("P", 3), ("P", bytes(range(256))), ("L", 100), ("RGB", PHOTO.getpixel((0, 0)))):
        found[f"{name} with {type(transparency).__name__}"] = image = PHOTO.convert(name)
        image.info["transparency"] = transparency
    for mode, space in (("RGB", "LAB"), ("RGB", "XYZ"), ("L", "sRGB"), ("RGB", "sRGB")):
        found[f"{mode} in {space}"] = image = PHOTO.convert(mode)
        image.info["icc_profile"] = profile(space)
    return found


@pytest.mark.parametrize("name", images())
def test_tiles_make_what_the_whole_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = images()[name]
    whole = rgb.to_rgb(image)
    for tile in (1, 7, 50):
        monkeypatch.setattr(rgb, "TILE", tile)
        assert rgb.to_rgb(image).tobytes() == whole.tobytes()
    assert (whole.mode, whole.size, whole.info) == ("RGB", SIZE, {})


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiles_are_turned_to_their_places(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: Any = PHOTO.copy()
    turned.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(turned)
    for tile in (1, 7, 50, 1 << 20):
        monkeypatch.setattr(rgb, "TILE", tile)
        made = rgb.to_rgb(turned)
        assert (made.size, made.tobytes()) == (upright.size, upright.tobytes())
