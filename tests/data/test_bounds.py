"""The memory for reading one image, measured in separate processes on pictures with small files."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from captioner.data.bounds import BYTES, MAX_BESIDE
from captioner.data.images import open_image
from captioner.errors import ImageError

# Reads one small picture, so that all is loaded, then the large one; prints by how many bytes the peak has grown.
PROGRAM = """
import resource, sys
from captioner.data.images import ImageError, open_image
open_image(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_image(sys.argv[2], max_pixels=int(sys.argv[3]))
except ImageError as error:
    print(error, file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
SIDE = 3000
APART = 80 << 20
"""Bytes beside those of the pixels: a tile that is converted, and what the libraries keep."""


def grown(path: Path, max_pixels: int = SIDE * SIDE) -> tuple[int, str]:
    """Return the bytes of memory for a picture, and the error."""
    Image.new("RGB", (8, 8)).save(path.with_suffix(".small"), "PNG")
    command = [sys.executable, "-c", PROGRAM, str(path.with_suffix(".small")), str(path), str(max_pixels)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return int(done.stdout), done.stderr


def picture(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.full((SIDE, SIDE), 300, np.uint16))
    if mode in ("F", "I"):
        return Image.new(mode, (SIDE, SIDE), 3)
    image = Image.new("RGB", (SIDE, SIDE), "olive")
    if mode.endswith("A"):
        image.putalpha(100)
    return image.convert(mode)


TURNED = Image.Exif()
TURNED[0x0112] = 6
PICTURES: list[tuple[str, str, dict[str, Any]]] = [
    ("RGBA", "PNG", {}),
    ("RGBA", "PNG", {"exif": TURNED}),
    ("LA", "PNG", {}),
    ("P", "PNG", {"transparency": 0}),
    ("I;16", "PNG", {}),
    ("F", "TIFF", {"compression": "tiff_deflate"}),
    ("I", "TIFF", {"compression": "tiff_deflate"}),
    ("LAB", "TIFF", {"compression": "tiff_deflate"}),
    ("CMYK", "JPEG", {"exif": TURNED}),
    ("P", "GIF", {"transparency": 0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "form", "options"), PICTURES)
def test_a_pixel_takes_no_more_than_the_bound(mode: str, form: str, options: dict[str, Any], tmp_path: Path) -> None:
    picture(mode).save(tmp_path / "a", form, **options)
    size, error = grown(tmp_path / "a")
    assert not error
    assert size < BYTES * SIDE * SIDE + APART


def test_a_float_tiff_takes_no_more_than_the_bound(tmp_path: Path) -> None:
    picture("F").save(tmp_path / "a", "TIFF", compression="tiff_deflate")
    size, error = grown(tmp_path / "a")
    assert not error
    assert size < BYTES * SIDE * SIDE + APART, "it was 31 bytes a pixel"


COSTLY = [
    ("RGBA", "WEBP", {"lossless": True}),
    ("RGBA", "AVIF", {"speed": 10}),
    ("RGBA", "JPEG2000", {}),
    ("CMYK", "JPEG", {"progressive": True}),
    ("RGBA", "TIFF", {"compression": "tiff_deflate", "tiffinfo": {278: SIDE}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "form", "options"), COSTLY)
def test_what_takes_more_for_a_pixel_may_have_fewer(
    mode: str, form: str, options: dict[str, Any], tmp_path: Path
) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture(mode).save(tmp_path / "a", form, **options)
    size, error = grown(tmp_path / "a")
    assert f"of this kind of {form}" in error
    assert size < APART
    size, error = grown(tmp_path / "a", allowed := 4 * SIDE * SIDE)
    assert not error
    assert size < BYTES * allowed + APART


def test_a_limit_by_the_kind_of_file_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.webp")
    assert open_image(tmp_path / "a.webp", max_pixels=25_000).size == (100, 100)
    with pytest.raises(ImageError, match=r"its 100 x 100 pixels exceed the limit of 0\.005 megapixels of this"):
        open_image(tmp_path / "a.webp", max_pixels=10_000)


def chunk(kind: bytes, length: int) -> bytes:
    return length.to_bytes(4, "big") + kind


@pytest.mark.parametrize("behind", [False, True])
def test_what_lies_beside_the_pixels_is_bounded(behind: bool, tmp_path: Path) -> None:
    """A chunk of 900 MB, a hole in the file, stands before or after the pixels."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    whole = out.getvalue()
    place = whole.index(b"IEND") - 4 if behind else 33
    with (tmp_path / "a").open("wb") as file:
        file.write(whole[:place] + chunk(b"priv", 900 << 20))
        file.seek((900 << 20) + 4, io.SEEK_CUR)
        file.write(whole[place:])
    size, error = grown(tmp_path / "a")
    assert "its metadata is larger than 134 MB" in error
    assert size < 2 * MAX_BESIDE + APART


@pytest.mark.parametrize(
    ("start", "size", "said"),
    [
        (b"RIFF\xff\xff\xff\x7fWEBPVP8 ", 300 << 20, "its 315 MB exceed the limit for an image"),
        (b"\x89PNG\r\n\x1a\n", 5 << 30, "its 5,369 MB exceed the limit for an image"),
    ],
)
def test_a_hole_called_an_image_is_not_read(start: bytes, size: int, said: str, tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(start)
        file.truncate(size)
    grew, error = grown(tmp_path / "a")
    assert said in error
    assert grew < APART


def test_a_tiff_of_one_large_tile_is_refused() -> None:
    """An image of 16 x 16 in a tile of 32,000 x 32,000 would take 1 GB to decode."""
    packed = zlib.compress(bytes(256))
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32_000, 323: 32_000, 324: 8, 325: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(ImageError, match="its tiles are larger than the image"):
        open_image(content)
