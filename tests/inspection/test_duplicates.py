"""Duplicates of an image in other sizes and formats are found, and similar images are not."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from captioner.errors import ImageError
from captioner.inspection import duplicates
from captioner.inspection.duplicates import exact_groups, near_groups
from captioner.inspection.pictures import Picture, difference_hash, read_all_pictures, read_picture


def scene(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Return smooth noise: two seeds differ as much as two photos."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def picture(image: Image.Image, form: str = "PNG", quality: int = 90) -> Picture:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x.{form.lower()}")
        image.save(path, form, quality=quality)
        found = read_picture(path)
    assert isinstance(found, Picture)
    return found


DISGUISES: dict[str, Callable[[Image.Image], Picture]] = {
    "jpeg": lambda image: picture(image, "JPEG", quality=30),
    "half the size": lambda image: picture(image.resize((60, 45))),
    "another shape": lambda image: picture(image.resize((100, 100))),
    "darker": lambda image: picture(ImageEnhance.Brightness(image).enhance(0.6)),
    "grey": lambda image: picture(image.convert("L")),
    "mirrored": lambda image: picture(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "blurred": lambda image: picture(image.filter(ImageFilter.GaussianBlur(2))),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_is_seen_through(disguise: str) -> None:
    pictures = [*(picture(scene(seed)) for seed in range(20)), DISGUISES[disguise](scene(7))]
    assert exact_groups(pictures) == []
    assert near_groups(pictures) == [[7, 20]]


def test_other_scenes_are_not_alike() -> None:
    assert near_groups([picture(scene(seed)) for seed in range(120)]) == []


def test_a_hash_alone_is_not_believed() -> None:
    """Two ramps have the same hash, even with different content on them."""
    ramp = np.broadcast_to(np.linspace(0, 120, 96), (96, 96)).copy()
    spots = ramp.copy()
    spots[::2] += 100
    spots[:48] = np.minimum(spots[:48] * 0.2 + np.arange(96) * 0.2, 255)
    pictures = [picture(Image.fromarray(values.astype(np.uint8))) for values in (ramp, spots)]
    assert bin(pictures[0].hash ^ pictures[1].hash).count("1") <= duplicates.BITS
    assert near_groups(pictures) == []


def test_nothing_is_alike_in_flat_images() -> None:
    assert near_groups([picture(Image.new("RGB", (64, 64), (value,) * 3)) for value in (0, 128, 130)]) == []


def test_same_bytes_are_one_group_and_take_part_once() -> None:
    first, again, jpeg = picture(scene(1)), picture(scene(1)), picture(scene(1), "JPEG", quality=60)
    pictures = [first, None, again, picture(scene(2)), jpeg]
    assert exact_groups(pictures) == [[0, 2]]
    assert near_groups(pictures) == [[0, 4]]


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with open(path, "wb") as file:
        file.truncate(10 << 30)
    tracemalloc.start()
    found = read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(found) == f"cannot read {path}: its 10,737 MB exceed the limit for an image"
    assert peak < 1 << 20


def test_bits_are_counted_with_any_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, (5, 7), dtype=np.uint64)
    wanted = [[bin(int(value)).count("1") for value in row] for row in values]
    assert duplicates._bits(values).tolist() == wanted
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert duplicates._bits(values).tolist() == wanted


def test_the_hash_is_of_brightness_rising_to_the_right() -> None:
    ramp = Image.fromarray(np.broadcast_to(np.arange(0, 252, 7, dtype=np.uint8), (32, 36)).copy())
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0


def test_looking_is_in_order_and_names_what_is_wrong(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    scene(2).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    names = ["a.png", "empty.jpg", "b.jpg", "text.jpg", "cut.png", "folder.jpg", "link.jpg", "gone.jpg"]
    found = list(read_all_pictures([tmp_path / name for name in names]))
    assert [item.size for item in found if isinstance(item, Picture)] == [(120, 90), (90, 120)]
    wrong = [str(item) for item in found if isinstance(item, ImageError)]
    assert [(tmp_path / name).name in line for name, line in zip(names[1:2] + names[3:], wrong, strict=True)] == [
        True
    ] * 6
    ends = ("it is empty", "not supported", "truncated", "it is a folder", "does not exist", "no such file")
    for line, end in zip(wrong, ends, strict=True):
        assert line.startswith(f"cannot read {tmp_path}")
        assert end in line
