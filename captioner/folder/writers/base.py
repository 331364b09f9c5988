"""What a run asks of a writer of single files, and where such a file stands."""

from __future__ import annotations

import os
from typing import Protocol
from urllib.parse import quote

from captioner.data.beside import Beside
from captioner.data.paths import shown
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
    and ``dog.png.txt``: no caption writes over another. A file that is there already, and that ``Beside`` gives to this
    photo alone, keeps its name. Folders are listed once, as long as they are among the last.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._listed: dict[str, Beside] = {}

    def file(self, photo: Photo, suffix: str) -> str:
        """The path of the photo's file with this suffix. Raises ``OutputError`` where there is no place for it."""
        if photo.path is None:
            if self._place.beside:
                what = f"cannot write a file beside {shown(photo.id)}: it lies in no folder"
                raise OutputError(f"{what}; give --out DIR, or write jsonl")
            return os.path.join(self._place.out, _inside(photo.key) + suffix)
        folder, name = os.path.split(os.path.abspath(photo.path))
        texts = self._folder(photo, folder)
        return os.path.join(texts, self._of(folder, texts).own(name, suffix))

    def found(self, photo: Photo, suffix: str) -> list[str]:
        """The files with this suffix that may hold the photo's caption, the surest first."""
        own = self.file(photo, suffix)
        if photo.path is None:
            return [own]
        folder, name = os.path.split(os.path.abspath(photo.path))
        texts = self._folder(photo, folder)
        there = [os.path.join(texts, other) for other in self._of(folder, texts).files(name, suffix)]
        return there if own in there else [own, *there]  # it may have come since the folder was listed

    def forget(self) -> None:
        """Look at the folders anew, since photos may have come."""
        self._listed.clear()

    def _folder(self, photo: Photo, folder: str) -> str:
        return folder if self._place.beside else os.path.join(self._place.out, os.path.dirname(_inside(photo.key)))

    def _of(self, folder: str, texts: str) -> Beside:
        if folder not in self._listed:
            while len(self._listed) > 8:
                del self._listed[next(iter(self._listed))]
            self._listed[folder] = Beside(_names(folder), None if texts == folder else _names(texts))
        return self._listed[folder]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # --out is made when something is written
        return []


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
