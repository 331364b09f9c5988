"""The loader of pixels reads ahead in order, lazily, and past unreadable photos."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from captioner.config import PreprocessConfig
from captioner.data import loader
from captioner.data.loader import load_pixels
from captioner.errors import ImageError

PIXELS = PreprocessConfig(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def gray(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level, level, level))


def level(pixels: torch.Tensor | ImageError) -> int | str:
    return str(pixels) if isinstance(pixels, ImageError) else round(255 * float(pixels.mean()))


def test_in_order_with_errors_at_their_places(tmp_path: Path) -> None:
    refused = ImageError("cannot read x: it is a folder")
    given = [gray(10), tmp_path / "gone.jpg", gray(20), refused, b"no image", gray(30)]
    found = [level(pixels) for pixels in load_pixels(given, PIXELS, workers=3, ahead=2)]
    assert found == [
        10,
        f"cannot read {tmp_path / 'gone.jpg'}: there is no such file",
        20,
        "cannot read x: it is a folder",
        "cannot read an image of 8 bytes: it is not an image, or its format is not supported",
        30,
    ]


def test_no_more_than_ahead_images_wait() -> None:
    taken = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        for taken in count(1):
            yield gray(taken)

    found = load_pixels(endless(), PIXELS, ahead=4)
    assert [level(pixels) for pixels in islice(found, 3)] == [1, 2, 3]
    assert taken == 4 + 3


def test_in_turns_nothing_is_begun_before_all_are_taken() -> None:
    begun = 0

    def some() -> Iterator[Image.Image]:
        nonlocal begun
        for begun in range(1, 8):
            yield gray(begun)

    found = load_pixels(some(), PIXELS, ahead=3, in_turns=True)
    assert [(level(pixels), begun) for pixels in found] == [(1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6), (7, 7)]


def test_what_must_be_fetched_does_not_wait_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loader, "open_image", lambda image, **options: image if isinstance(image, Image.Image) else gray(9)
    )
    begun = 0

    def some() -> Iterator[Image.Image | str]:
        nonlocal begun
        for image in (gray(1), "https://example.org/a.jpg", gray(2), gray(3), gray(4)):
            begun += 1
            yield image

    found = load_pixels(some(), PIXELS, ahead=2, in_turns=True)
    assert [(level(pixels), begun) for pixels in found] == [(1, 3), (9, 4), (2, 5), (3, 5), (4, 5)]


def test_a_reader_that_leaves_does_not_wait_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    gate = threading.Event()

    def slow(image: Image.Image, **options: object) -> Image.Image:
        opened.append(image)
        if len(opened) > 1:
            gate.wait(5)
        return image

    monkeypatch.setattr(loader, "open_image", slow)
    found = load_pixels([gray(n) for n in range(30)], PIXELS, workers=1, ahead=30)
    next(found)
    threading.Timer(0.1, gate.set).start()
    found.close()  # type: ignore[attr-defined]
    assert len(opened) <= 3


def test_all_images_at_once_may_be_asked_for(tmp_path: Path) -> None:
    gone = [tmp_path / "gone.png"] * 3
    assert len(list(load_pixels(gone, PIXELS, ahead=10**70))) == 3
    assert len(list(load_pixels(gone, PIXELS, ahead=10**70, in_turns=True))) == 3


def test_nothing_in_nothing_out() -> None:
    assert list(load_pixels([], PIXELS)) == []
