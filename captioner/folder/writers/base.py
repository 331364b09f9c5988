"""The interface of writers of single files, and the paths of these files."""

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
from captioner.system.names import accepted, folded, ignores_case


class FileWriter(Protocol):
    """A writer of one file per photo. ``name`` is the name of the output."""

    @property
    def name(self) -> str: ...

    def slot(self, photo: Photo) -> Slot:
        """Return the file for a photo and its existing caption. Raises ``OutputError`` if there can be no file."""

    def places(self, key: str) -> tuple[str, ...]:
        """Return all files that ``slot`` may return for the photo with this key."""

    def write(self, entry: Entry, token: str) -> None:
        """Write the file, atomically and idempotently. Raises ``OutputError``."""


class Neighbours:
    """The paths of a photo's own files: ``dog.txt`` beside ``dog.jpg``, or in the same subfolder of ``--out``.

    If photos of one folder differ only in their suffix, such as ``dog.jpg`` and ``dog.png``, their files are
    ``dog.jpg.txt`` and ``dog.png.txt``, so that no caption overwrites another. An existing file that ``Beside`` assigns
    to one photo alone keeps its name. Listings of the last few folders are cached.

    Under ``--out`` two photos may have one file: ``http://h/1.jpg`` and ``https://h/1.jpg``, ``pics/1.jpg`` and
    ``/pics/1.jpg``, and in a folder that ignores case ``a.zip!/A/1.jpg`` and ``a.zip!/a/1.jpg``. The first photo of
    this run has it, and the other one is refused.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._listed: dict[str, Beside] = {}
        self._claims: dict[int, int] = {}  # hashes of file and photo, below --out
        self._merges: bool | None = None

    def file(self, photo: Photo, suffix: str) -> str:
        """Return the path of the photo's file with this suffix. Raises ``OutputError`` if there is none."""
        if photo.path is None:
            if self._place.beside:
                raise OutputError(
                    f"cannot write a file beside {shown(photo.id)}: it is not in a folder; use --out DIR or write jsonl"
                )
            return self._claimed(os.path.join(self._place.out, _inside(photo.key) + suffix), photo)
        folder, name = os.path.split(os.path.abspath(photo.path))
        texts = self._folder(photo, folder)
        return self._claimed(os.path.join(texts, self._of(folder, texts).own(name, suffix)), photo)

    def _claimed(self, file: str, photo: Photo) -> str:
        """Return a file in ``--out``, unless it is that of another photo. Raises ``OutputError``."""
        if not self._place.beside and not self.claim(file, photo.key):
            why = " (this folder ignores case)" if self._merges else ""
            raise OutputError(
                f"cannot write {shown(file)}: it is the file of another photo already{why}; write jsonl or csv, or "
                "caption this photo into another folder with --out DIR"
            )
        return file

    def claim(self, file: str, key: str) -> bool:
        """Reserve a file below ``--out`` for the photo with this key; return False if another photo has it."""
        return self._claims.setdefault(self._mark(file), hash(key)) == hash(key)

    def _mark(self, file: str) -> int:
        if self._merges is None:
            self._merges = any(map(ignores_case, locks(self._place.out)))
        return hash(folded(file) if self._merges else file)

    def found(self, photo: Photo, suffix: str) -> list[str]:
        """Return the files with this suffix that may hold the photo's caption, the most specific first."""
        own = self.file(photo, suffix)
        if photo.path is None:
            return [own]
        folder, name = os.path.split(os.path.abspath(photo.path))
        texts = self._folder(photo, folder)
        existing = [os.path.join(texts, other) for other in self._of(folder, texts).files(name, suffix)]
        if not self._place.beside:  # photos of another folder may have files in this one
            mine = hash(photo.key)
            existing = [file for file in existing if self._claims.get(self._mark(file), mine) == mine]
        return existing if own in existing else [own, *existing]  # it may be newer than the listing

    def forget(self) -> None:
        """Clear the cached listings, since photos may have been added."""
        self._listed.clear()

    def _folder(self, photo: Photo, folder: str) -> str:
        return folder if self._place.beside else os.path.join(self._place.out, os.path.dirname(_inside(photo.key)))

    def _of(self, folder: str, texts: str) -> Beside:
        if folder not in self._listed:
            while len(self._listed) > 8:
                del self._listed[next(iter(self._listed))]
            self._listed[folder] = Beside(_names(folder), None if texts == folder else _names(texts))
        return self._listed[folder]


def locks(out: str) -> list[str]:
    """Return the lock files in the ``--out`` folder of a run; a run holds one from its beginning to its end."""
    return [os.path.join(out, name) for name in _names(out) if name.startswith(".captioner") and name.endswith(".lock")]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # --out is created at the first write
        return []


def places(place: Place, key: str, suffix: str) -> tuple[str, str]:
    """Return the two paths that ``Neighbours.file`` may return, from the photo's key alone."""
    whole = place.whole(key) if place.beside else os.path.join(place.out, _inside(key))
    return os.path.splitext(whole)[0] + suffix, whole + suffix


def _inside(key: str) -> str:
    """Return a key as a relative path, without drive, leading slash and ``..``; for a URL its host and path."""
    if is_url(key):
        key = quote(key.partition("://")[2], safe="/")
    parts = os.path.splitdrive(key)[1].replace("\\", "/").split("/")
    return os.path.join("", *(accepted(part) for part in parts if part not in ("", ".", "..")))
