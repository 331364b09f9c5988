"""Captions in the tables of a folder, read again when a file changes."""

from __future__ import annotations

import csv
import glob
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from captioner.data.cells import unguarded
from captioner.data.sources.rows import clean
from captioner.data.urls import is_url
from captioner.errors import OutputError
from captioner.folder.entry import CaptionRecord
from captioner.folder.outputs import REVIEW
from captioner.folder.own import refuse_irregular
from captioner.folder.plan import Place
from captioner.folder.writers.forms import FORMS, Row

Said = tuple[CaptionRecord, ...]
"""The captions of a photo, best first. Figures that a file lacks are NaN."""
KINDS = tuple(name for name in FORMS if name != REVIEW)


class TableFile:
    """The captions in one table by the photo's key. ``part``: the name of a shard's table is a pattern."""

    def __init__(self, name: str, place: Place, *, part: str = "") -> None:
        self.name = name
        self._pattern = os.path.join(glob.escape(place.out), FORMS[name].file.format(part))
        self._place = place
        self._looks: list[tuple[str, int, int, int]] = []
        self._said: dict[str, Said] = {}

    def refresh(self) -> None:
        """Read the table if it changed. Raises ``OutputError`` for one that captioner did not write."""
        paths = sorted(glob.glob(self._pattern))
        looks = [look for look in map(_look, paths) if look is not None]
        if looks == self._looks:
            return
        said: dict[str, Said] = {}
        for path, *_ in looks:
            refuse_irregular(path)
            try:
                self._read(path, said)
            except OSError as error:
                raise OutputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
        self._said, self._looks = said, looks

    def get(self, key: str) -> Said:
        """Return the captions of a photo; none without a row."""
        return self._said.get(key, ())

    def __len__(self) -> int:
        return len(self._said)

    def _read(self, path: str, said: dict[str, Said]) -> None:
        place, records, several = self._place, _READERS[self.name], self.name in ("csv", "coco")
        fresh: set[str] = set()
        for row in FORMS[self.name].read(path):
            if row.name is None:
                continue
            key = place.key(row.name if is_url(row.name) else os.path.join(place.out, row.name))
            try:
                found = tuple(record for record in records(row) if record.text)
            except (LookupError, ValueError, TypeError, AttributeError, RecursionError):  # other fields than ours
                if not row.text:  # an error in place of a caption, or a dataset of someone else
                    continue
                found = said_of([row.text])
            said[key] = (*said[key], *found) if several and key in fresh else found
            fresh.add(key)


def said_of(texts: list[str]) -> Said:
    """Return captions without figures."""
    return tuple(CaptionRecord(text, math.nan, math.nan) for text in map(clean, texts) if text)


def _look(path: str) -> tuple[str, int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return path, status.st_ino, status.st_size, status.st_mtime_ns


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _jsonl(row: Row) -> Iterator[CaptionRecord]:
    record = json.loads(row.raw)
    labels = record.get("labels") or ()
    for n, caption in enumerate((record, *(record.get("alternatives") or ()))):
        text, score, confidence = caption["caption"], _number(caption.get("score")), _number(caption.get("confidence"))
        yield CaptionRecord.of(clean(text), score, confidence, () if n else labels)


def _metadata(row: Row) -> Said:
    text = json.loads(row.raw)["text"]
    return said_of(text if isinstance(text, list) else [text])


def _coco(row: Row) -> Said:
    return said_of([json.loads(row.raw)["caption"]])


def _csv(row: Row) -> Iterator[CaptionRecord]:
    [cells] = (
        csv.reader([row.raw.decode()]) if b"\n" not in row.raw[:-1] else csv.reader(row.raw.decode().splitlines(True))
    )
    score, confidence = (float(cell) if cell else math.nan for cell in cells[2:4])
    names = [name for name in unguarded(cells[4]).split(", ") if name]
    yield CaptionRecord.of(clean(row.text), score, confidence, [(name, 1.0) for name in names])


_READERS: dict[str, Callable[[Row], Any]] = {
    "jsonl": _jsonl,
    "metadata": _metadata,
    "coco": _coco,
    "csv": _csv,
    REVIEW: _jsonl,
}
