"""Tables with a row per photo, appended during the run or assembled at its end, without partial rows.

The journal holds the size of a table when its rows were last flushed to the disk. After a crash, the run truncates the
table to this size and writes the rest again. If existing rows must be replaced, it assembles the table at the end, from
the remaining rows and the captions in the journal, and replaces the file atomically; this is idempotent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from captioner.data.urls import is_url
from captioner.folder.atomic import refused, replace_file
from captioner.folder.confines import Confines
from captioner.folder.entry import CaptionRecord, Entry, Photo, Slot
from captioner.folder.journal import Journal
from captioner.folder.own import refuse_irregular
from captioner.folder.plan import Plan
from captioner.folder.writers.forms import FORMS, ends_a_line
from captioner.system.disk import sync_folder


class Table:
    """The table of one output. It is read once, or not at all if ``resumed``: then the journal has its content."""

    def __init__(self, name: str, plan: Plan, journal: Journal, *, resumed: bool) -> None:
        self.name = name
        self._plan, self._journal, self._form = plan, journal, FORMS[name]
        self.path = _path(name, plan)
        self._file: BinaryIO | None = None
        self._size = self._rebuild = 0
        self._torn = False
        try:
            self._recover() if resumed else self._adopt()
        except OSError as error:
            raise refused(self.path, error) from error

    @property
    def settings(self) -> dict[str, int]:
        """The state of the table for the journal."""
        return {f"size:{self.name}": self._size, f"rebuild:{self.name}": self._rebuild}

    def slot(self, photo: Photo) -> Slot:
        """Return the caption of the photo's existing row. Raises ``OutputError`` if the table cannot name the photo."""
        self._form.spell(self._name(photo.key), [""], (CaptionRecord("", 0.0, 0.0),))
        return Slot(old=self._known(photo.key) or "")

    def append(self, entries: Sequence[Entry]) -> None:
        """Append the rows of these photos and flush them to the disk. Raises ``OutputError``, and then adds none."""
        rows = b"".join(row for entry in entries for row in self._rows(entry))
        if not self._form.live:
            return
        if any(self._known(entry.key) is not None for entry in entries):
            self._rebuild = 1  # existing rows must be replaced
        try:
            if self._torn:
                self._repair()
            if self._file is None:
                new = not os.path.exists(self.path)
                self._file = open(self.path, "ab")  # noqa: SIM115  (stays open between rows)
                if new:
                    sync_folder(os.path.dirname(self.path))
            self._file.write(rows if self._size else self._form.head + rows)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._size = self._file.tell()
        except OSError as error:
            self._undo_append()
            raise refused(self.path, error) from error

    def finish(self) -> None:
        """Assemble the table, if appended rows do not suffice. Raises ``OutputError``."""
        self.close()
        if self._form.live and not self._rebuild:
            return
        if next(self._journal.entries(self.name), None) is None:
            return  # nothing new: the file stays as it is
        try:
            replace_file(self.path, self._whole(), self._journal.token)
            self._size = os.path.getsize(self.path)
        except OSError as error:
            raise refused(self.path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _adopt(self) -> None:
        """Read the table into the journal."""
        if not os.path.exists(self.path):
            return
        self._journal.learn(self.name, ((row.name, row.text) for row in self._form.read(self.path) if row.name))
        self._size = os.path.getsize(self.path)
        self._rebuild = int(self._form.outdated(self.path))
        self._torn = self._form.live and (not ends_a_line(self.path) or self._shared())

    def _shared(self) -> bool:
        """Return whether the file has several hard links: appended rows would show up in the others too."""
        return os.path.exists(self.path) and os.stat(self.path).st_nlink > 1

    def _repair(self) -> None:
        """Replace the table by a copy with a complete last line and a single hard link."""
        replace_file(self.path, chain([self._form.head], self._old()), self._journal.token)
        self._size, self._torn = os.path.getsize(self.path), False

    def _recover(self) -> None:
        """Truncate the table to the size in the journal; mark a shorter one to be assembled again."""
        size, self._rebuild = map(self._journal.number, self.settings)
        actual = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        self._size = actual
        if actual < size or self._shared():
            self._rebuild = 1
        elif self._form.live and not self._rebuild and actual > size:
            os.truncate(self.path, size)
            self._size = size
        # A table marked to be assembled may have been just before the interrupt; its rows are matched by name.
        self._torn = self._form.live and (not ends_a_line(self.path) or self._shared())

    def _undo_append(self) -> None:
        """Remove a partly written row."""
        try:
            if self._file is not None:
                self._file.close()
        except OSError:
            pass
        self._file = None
        try:
            if os.path.exists(self.path):
                os.truncate(self.path, self._size)
        except OSError:
            self._rebuild = 1

    def _rows(self, entry: Entry) -> list[bytes]:
        texts = [self._plan.compose(caption.text, entry.id) for caption in entry.captions]
        texts[0] = self._plan.combine(entry.slots[self.name].old, texts[0])
        return self._form.spell(self._name(entry.key), texts, entry.captions)

    def _old(self) -> Iterator[bytes]:
        """Yield the existing rows that this run does not replace."""
        if os.path.exists(self.path):
            for row in self._form.read(self.path):
                if row.name is None or self.name not in self._journal.slots(self._key(row.name)):
                    yield row.raw

    def _known(self, key: str) -> str | None:
        return self._journal.known(self.name, self._name(key))

    def _name(self, key: str) -> str:
        place = self._plan.place
        return place.name(place.whole(key))

    def _key(self, name: str) -> str:
        """Return the journal's key of the photo that a row names."""
        place = self._plan.place
        return place.key(name if is_url(name) else os.path.join(place.out, name))

    def _whole(self) -> Iterator[bytes]:
        new = (row for entry in self._journal.entries(self.name) for row in self._rows(entry))
        yield self._form.head
        yield from _joined(chain(self._old(), new), self._form.between)
        yield self._form.foot


def _path(name: str, plan: Plan) -> str:
    """Return the path of the table, with symlinks resolved. Raises ``OutputError`` if it may not be written."""
    path = os.path.join(plan.place.out, FORMS[name].file.format(plan.part))
    real = Confines(plan).real(path)
    refuse_irregular(real)
    return real if os.path.islink(path) else path


def _joined(rows: Iterable[bytes], between: bytes) -> Iterator[bytes]:
    first = True
    for row in rows:
        yield row if first else between + row
        first = False
