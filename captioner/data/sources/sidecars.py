"""Images with a text file beside each: ``dog.jpg`` and ``dog.caption`` or ``dog.txt``, one caption a line.

The form of diffusion trainers. Where both exist ``.caption`` wins: ``.txt`` then usually holds tags. ``dog.jpg.txt``
wins over ``dog.txt``: it tells ``dog.jpg`` from ``dog.png``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from captioner.data.paths import MAX_SIDECAR, is_image_name, list_folder, read_text, shown
from captioner.data.sources.rows import ImageFinder, NotThisForm, Row, gather
from captioner.data.splits import Dataset
from captioner.errors import DataError

SIDECAR_SUFFIXES = (".caption", ".txt")


def read(folder: Path) -> Dataset:
    """Read a folder with its sub-folders; hidden ones are skipped. Names are paths below ``folder``, with slashes.

    Raises ``NotThisForm`` if not one image has a caption file.
    """
    images = list(_images(folder))
    if not any(sidecar for _, sidecar in images):
        kind = f"{len(images)} images but not one caption file beside them" if images else "no images"
        raise NotThisForm(f"{shown(folder)} holds {kind}")
    unread: list[str] = []
    data = gather(_rows(folder, images, unread), folder, ImageFinder(folder))
    told = (f"{len(unread)} caption files cannot be read, the first for this reason: {unread[0]}",) if unread else ()
    return Dataset(splits=data.splits, problems=told + data.problems)


def _images(top: Path) -> Iterator[tuple[str, str | None]]:
    """Every image below ``top`` with its caption file or None, both relative to it."""
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(top / folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            files, folders = list_folder(str(top / folder))
        except OSError as error:
            raise DataError(f"{shown(top / folder)} cannot be listed: {(error.strerror or '').lower()}") from None
        prefix = f"{folder}/" if folder else ""
        names = {entry.name for entry in files}
        for entry in files:
            if is_image_name(entry.name):
                stems = (entry.name, os.path.splitext(entry.name)[0])
                beside = (stem + suffix for suffix in SIDECAR_SUFFIXES for stem in stems)
                sidecar = next((name for name in beside if name in names), None)
                yield prefix + entry.name, prefix + sidecar if sidecar else None
        waiting.extend(prefix + entry.name for entry in reversed(folders))


def _rows(folder: Path, images: list[tuple[str, str | None]], unread: list[str]) -> Iterator[Row]:
    for image, sidecar in images:
        lines: list[str] = []
        if sidecar:
            try:
                lines = read_text(folder / sidecar, most=MAX_SIDECAR).split("\n")
            except DataError as error:
                unread.append(str(error))
        yield Row(image=image, captions=tuple(line for line in lines if line.strip()))
