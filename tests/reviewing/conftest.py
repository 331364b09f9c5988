"""A folder of four drawn photos, and a shelf over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.reviewing.seen import Change, Seen, lines_of
from captioner.reviewing.shelf import Shelf

NAMES = ("1.png", "2.png", "more/3.png", "more/10.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for n, name in enumerate(NAMES):
        Image.new("RGB", (32, 24), (60 * n, 40, 200)).save(folder / name)
    return folder


@pytest.fixture
def change() -> Callable[..., list[Seen]]:
    """Return ``change(shelf, name, text, state)``, which saves one change to the photo as it is."""

    def do(shelf: Shelf, name: str, text: str | None = None, state: Any = "edited") -> list[Seen]:
        seen = at(shelf, name)
        captions = seen.texts if text is None else lines_of(text.split("\n"))
        return shelf.save([Change(id=seen.id, version=seen.version, captions=captions, state=state)])

    return do


def at(shelf: Shelf, name: str) -> Seen:
    """Return a photo by its name."""
    [seen] = [seen for seen in shelf.all() if seen.photo.key == name]
    return seen


def files(folder: Path) -> list[str]:
    """Return all files but photos, also hidden ones."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".png")
