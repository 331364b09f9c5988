"""All captions of a folder: which files hold them, which of them a save writes, and the caption of each photo."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from captioner.data.sources import read_splits
from captioner.data.sources.rows import NotThisForm
from captioner.data.sources.sidecars import captions_of
from captioner.data.splits import Dataset
from captioner.errors import DataError, OutputError
from captioner.folder.entry import Photo
from captioner.folder.outputs import REVIEW
from captioner.folder.plan import Output, Place, Plan
from captioner.folder.writers.base import FileWriter, Neighbours
from captioner.folder.writers.sidecars import Sidecars
from captioner.folder.writers.xmp import Xmp
from captioner.reviewing.tables import KINDS, Said, TableFile, said_of

SIDECARS: tuple[Output, ...] = ("caption", "txt")
"""In the order in which training reads them: if both exist, ``.txt`` usually holds tags."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The captions of a photo. ``kept``: they are in a file that a save writes, not only in another one."""

    said: Said = ()
    kept: bool = False
    doubted: bool = False  # only in review.jsonl


class Sources:
    """The captions of a folder's photos.

    ``outputs``: the files to read and write; by default those that exist, else a dataset of another format, whose
    captions are read but not changed, else ``.txt`` files. A folder with ``.caption`` and ``.txt`` files keeps its
    captions in ``.caption``.
    """

    def __init__(self, place: Place, photos: Sequence[Photo], outputs: Sequence[Output] = ()) -> None:
        self.place, self.notices = place, list[str]()
        self.neighbours = Neighbours(place)
        reading = Plan(place=place)
        self._files: dict[str, FileWriter] = {
            name: Sidecars(name, reading, self.neighbours)
            for name in dict.fromkeys((*SIDECARS, *outputs))
            if name in SIDECARS
        }
        if "xmp" in outputs:
            self._files["xmp"] = Xmp(reading, self.neighbours)
        self._tables = {name: TableFile(name, place) for name in KINDS}
        self._others = [TableFile(name, place, part=".*-of-*") for name in KINDS]
        self._others += [TableFile(REVIEW, place), TableFile(REVIEW, place, part=".*-of-*")]
        self._foreign: dict[str, Said] = {}
        self._unread: set[str] = set()
        self.refresh()
        self.outputs = tuple(outputs) or self._detected(photos)
        if not self.outputs and not self._read_dataset(photos):
            self.outputs = ("txt",)

    @property
    def plan(self) -> Plan:
        """The plan of a save."""
        return Plan(place=self.place, outputs=self.outputs, existing="overwrite")

    def refresh(self) -> None:
        """Read the tables that changed, and forget listings of folders."""
        self.neighbours.forget()
        for table in (*self._tables.values(), *self._others):
            try:
                table.refresh()
            except OutputError as error:
                if table.name not in self._unread:
                    self.notices.append(f"{error}; its captions are not shown")
                self._unread.add(table.name)

    def of(self, photo: Photo) -> Found:
        """Return the captions of a photo now."""
        rows = [table.get(photo.key) for table in (*self._tables.values(), *self._others)]
        for name in self.outputs:
            if said := self._in(name, photo):
                return Found(said=_with_figures(said, rows), kept=True)
        others = [name for name in SIDECARS if name not in self.outputs]
        for said in (*(self._in(name, photo) for name in others), *rows, self._foreign.get(photo.key, ())):
            if said:
                doubted = any(table.name == REVIEW and table.get(photo.key) is said for table in self._others)
                return Found(said=_with_figures(said, rows), doubted=doubted)
        return Found()

    def _in(self, name: str, photo: Photo) -> Said:
        if name in self._tables:
            return self._tables[name].get(photo.key)
        try:
            return said_of(captions_of(self._files[name].slot(photo).old, "lines"))
        except OutputError:  # no file can be beside the photo, or not one that may be written
            return ()

    def _detected(self, photos: Iterable[Photo]) -> tuple[Output, ...]:
        found: list[Output] = []
        for name in SIDECARS:
            if not found and any(self._in(name, photo) for photo in photos):
                found.append(name)
        found += [cast(Output, name) for name in KINDS if len(self._tables[name])]
        return tuple(found)

    def _read_dataset(self, photos: Iterable[Photo]) -> bool:
        """Read the captions of a dataset in any format that training reads; return whether there is one."""
        if self._others and any(len(table) for table in self._others):
            return False
        data = self._dataset()
        if data is None:
            return False
        keys = {os.path.realpath(photo.path): photo.key for photo in photos if photo.path is not None}
        for samples in data.splits.values():
            for sample in samples:
                if (key := keys.get(os.path.realpath(Path(sample.path)))) is not None and sample.span is None:
                    self._foreign[key] = said_of(list(sample.captions))
        if self._foreign:
            self.notices.append(
                "these captions are in a format that captioner does not write: the files stay as they are, and what "
                "you accept or edit is saved in review.decisions.jsonl"
            )
        return bool(self._foreign)

    def _dataset(self) -> Dataset | None:
        for name in (self.place.out, os.path.join(glob.escape(self.place.out), "*.parquet")):
            try:
                return read_splits(name)
            except NotThisForm:
                continue
            except DataError as error:
                if glob.glob(name):
                    self.notices.append(f"{error}; its captions are not shown")
        return None


def _with_figures(said: Said, rows: Iterable[Said]) -> Said:
    """Return captions with the figures that a table has for the same text."""
    known = {record.text: record for row in rows for record in row if record.confidence == record.confidence}
    return tuple(
        replace(known[record.text], text=record.text)
        if record.confidence != record.confidence and record.text in known
        else record
        for record in said
    )
