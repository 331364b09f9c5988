"""What a run asks of a writer of single files, and where such a file stands."""

from __future__ import annotations

import os
from collections import Counter
from typing import Protocol
from urllib.parse import quote

from captioner.data.paths import is_image_name, shown
from captioner.data.urls import is_url
from captioner.errors import OutputError
from captioner.folder.entry import Entry, Photo, Slot
from captioner.folder.plan import Place


class FileWriter(Protocol):
    """Writes a file of its own for every photo. ``name`` is the output's."""

    @property
    def name(self) -> str: ...

    def slot(self, photo: Photo) -> Slot:
        """Which file it will be and what caption is there. Raises ``OutputError`` where there can be none."""

    def places(self, key: str) -> tuple[str, ...]:
        """All files that ``slot`` may give to the photo of this key."""

    def write(self, entry: Entry, token: str) -> None:
        """Write it, whole or not at all; a second time to the same end. Raises ``OutputError``."""


class Neighbours:
    """Where a photo's own files stand: ``dog.txt`` beside ``dog.jpg``, or as deep below ``--out``.

    Where photos of one folder share a name but for the suffix, ``dog.jpg`` and ``dog.png``, theirs are ``dog.jpg.txt``
    and ``dog.png.txt``: no caption writes over another. Folders are listed once, as long as they are among the last.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._shared: dict[str, frozenset[str]] = {}

    def file(self, photo: Photo, suffix: str) -> str:
        """The path of the photo's file with this suffix. Raises ``OutputError`` where there is no place for it."""
        key, place = photo.key, self._place
        if photo.path is not None:
            folder, name = os.path.split(os.path.abspath(photo.path))
            stem = os.path.splitext(name)[0]
            name = (name if stem.casefold() in self._of(folder) else stem) + suffix
            if place.beside:
                return os.path.join(folder, name)
            return os.path.join(place.out, os.path.dirname(_inside(key)), name)
        if place.beside:
            raise OutputError(
                f"cannot write a file beside {shown(photo.id)}: it lies in no folder; give --out DIR, or write jsonl"
            )
        return os.path.join(place.out, _inside(key) + suffix)

    def forget(self) -> None:
        """Look at the folders anew, since photos may have come."""
        self._shared.clear()

    def _of(self, folder: str) -> frozenset[str]:
        """The names, without suffixes, that several photos of a folder share."""
        if folder not in self._shared:
            try:
                with os.scandir(folder) as entries:
                    names = (os.path.splitext(entry.name)[0] for entry in entries if is_image_name(entry.name))
                    counted = Counter(name.casefold() for name in names)
            except OSError:
                counted = Counter()
            while len(self._shared) > 8:
                del self._shared[next(iter(self._shared))]
            self._shared[folder] = frozenset(name for name, times in counted.items() if times > 1)
        return self._shared[folder]


def places(place: Place, key: str, suffix: str) -> tuple[str, str]:
    """The two paths that ``Neighbours.file`` may give to the photo's file, by its key alone."""
    whole = place.whole(key) if place.beside else os.path.join(place.out, _inside(key))
    return os.path.splitext(whole)[0] + suffix, whole + suffix


def _inside(key: str) -> str:
    """A key as a path below a folder: without a drive, a leading slash, or a way up; a URL by its host and path."""
    if is_url(key):
        key = quote(key.partition("://")[2], safe="/")
    parts = os.path.splitdrive(key)[1].replace("\\", "/").split("/")
    return os.path.join("", *(part for part in parts if part not in ("", ".", "..")))
