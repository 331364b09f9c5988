"""What a run remembers on disk, so that it goes on after any end: an SQLite file beside the tables.

A photo's captions are committed, with the texts that they replace, before a file is touched, and marked as written
after it: whatever dies in between is written again, to the same end. The journal lives as long as its run. A run over a
million photos asks it for what it must not hold in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.entry import Entry, Said, Slot

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (output TEXT, name BLOB, text TEXT NOT NULL, PRIMARY KEY (output, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id BLOB NOT NULL,
    said TEXT NOT NULL, slots TEXT NOT NULL, confidence REAL NOT NULL, waiting TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS waiting ON done (place) WHERE waiting != '';
CREATE INDEX IF NOT EXISTS doubt ON done (confidence);
"""
_PAGE = 256  # rows that are in memory at once


class Journal:
    """The memory of one run. ``path`` None: of a run that leaves nothing to go on with, in a temporary file.

    Raises ``OutputError`` where it cannot be kept: a run without its memory may not go on.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.token = secrets.token_hex(4)
        with self._told():
            self._base = sqlite3.connect(path or "", isolation_level=None)
            # Whoever runs holds the lock of the folder, so the journal needs none of its own, nor shared memory.
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute(f"PRAGMA journal_mode = {'WAL' if path else 'OFF'}")
            self._base.execute(f"PRAGMA synchronous = {'FULL' if path else 'OFF'}")
            self._base.executescript(_SCHEMA)

    def get(self, name: str) -> Any:
        """A setting of the run, or None."""
        with self._told():
            row = self._base.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, **values: Any) -> None:
        with self._told(), self._once():
            self._set(values)

    def learn(self, output: str, rows: Iterable[tuple[str, str]]) -> None:
        """Remember the names and captions that a table holds already."""
        with self._told(), self._once():
            self._base.executemany(
                "INSERT OR REPLACE INTO known VALUES (?, ?, ?)",
                ((output, os.fsencode(name), _writable(text)) for name, text in rows),
            )

    def known(self, output: str, name: str) -> str | None:
        """The caption that a table held before this run, None where it does not name the photo."""
        with self._told():
            found = self._base.execute(
                "SELECT text FROM known WHERE output = ? AND name = ?", (output, os.fsencode(name))
            ).fetchone()
        return str(found[0]) if found else None

    def has(self, key: str) -> bool:
        """Whether this run has captioned that photo."""
        with self._told():
            return self._base.execute("SELECT 1 FROM done WHERE key = ?", (os.fsencode(key),)).fetchone() is not None

    def slots(self, key: str) -> dict[str, Slot]:
        """Where this run has put, or will put, the captions of that photo."""
        with self._told():
            found = self._base.execute("SELECT slots FROM done WHERE key = ?", (os.fsencode(key),)).fetchone()
        return _slots(found[0]) if found else {}

    def add(self, entries: Sequence[Entry]) -> None:
        """Remember captions that are about to be written."""
        with self._told(), self._once():
            self._base.executemany(
                "INSERT OR IGNORE INTO done (key, id, said, slots, confidence, waiting) VALUES (?, ?, ?, ?, ?, ?)",
                map(_row, entries),
            )

    def settle(self, left: Mapping[str, Iterable[str]], settings: Mapping[str, Any]) -> None:
        """Remember which outputs of photos, by key, are ``left`` to write; with settings that hold from then on."""
        with self._told(), self._once():
            rows = [(" ".join(outputs), os.fsencode(key)) for key, outputs in left.items()]
            self._base.executemany("UPDATE done SET waiting = ? WHERE key = ?", rows)
            self._set(settings)

    def waiting(self) -> Iterator[tuple[Entry, set[str]]]:
        """Captions that are not written, in order, and the outputs that lack them."""
        return ((entry, set(outputs.split())) for entry, outputs in self._entries("waiting != ''"))

    def entries(self, output: str) -> Iterator[Entry]:
        """All captions of this run that go to an output, in order, written or not."""
        return (entry for entry, _ in self._entries("1") if output in entry.slots)

    def sample(self, most: int) -> list[Entry]:
        """All captions in order; of more than ``most`` the least sure, the surest, and some out of all."""
        count, part = sum(self.confidences(1)), most // 4
        condition = "1"
        if count > most:
            least = f"SELECT place FROM done ORDER BY confidence LIMIT {2 * part}"
            surest = f"SELECT place FROM done ORDER BY confidence DESC LIMIT {part}"
            condition = f"(place IN ({least}) OR place IN ({surest}) OR place % {-(-count // part)} = 0)"
        return [entry for entry, _ in self._entries(condition)]

    def confidences(self, bins: int) -> list[int]:
        """How many captions have a confidence in each of so many equal parts of 0 to 1."""
        counts = [0] * bins
        with self._told():
            rows = self._base.execute(
                "SELECT min(CAST(confidence * ? AS INTEGER), ? - 1) AS part, count(*) FROM done GROUP BY part",
                (bins, bins),
            )
            for part, count in rows:
                counts[max(0, part)] = count
        return counts

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._base.close()

    def remove(self) -> None:
        """Forget the run."""
        self.close()
        if self.path:
            for end in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + end)

    def _set(self, values: Mapping[str, Any]) -> None:
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        self._base.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def _entries(self, condition: str) -> Iterator[tuple[Entry, str]]:
        last = -1
        while True:
            with self._told():
                rows = self._base.execute(
                    "SELECT place, waiting, id, key, said, slots FROM done "
                    f"WHERE place > ? AND {condition} ORDER BY place LIMIT {_PAGE}",
                    (last,),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from ((_entry(*row[2:]), row[1]) for row in rows)

    @contextlib.contextmanager
    def _once(self) -> Iterator[None]:
        """All of it or nothing."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as sentences."""
        try:
            yield
        except sqlite3.Error as error:
            name = shown(self.path) if self.path else "a temporary file"
            text = str(error).lower()
            if "full" in text or "disk i/o" in text:
                why = "the disk is full or broken; free some space, give the same command again, and the run goes on"
            elif "readonly" in text or "unable to open" in text:
                why = "permission denied; write elsewhere with --out DIR"
            elif "locked" in text:
                why = "another process has it open; wait for that one to end"
            else:
                why = f"{error}; remove it, and the run starts afresh"
            raise OutputError(f"cannot keep the journal of the run in {name}: {why}") from error


def _row(entry: Entry) -> tuple[object, ...]:
    said = json.dumps([[one.text, one.score, one.confidence] for one in entry.said])
    slots = json.dumps({name: [slot.file, slot.old] for name, slot in entry.slots.items()})
    key, identity = os.fsencode(entry.key), os.fsencode(entry.id)
    return key, identity, said, slots, entry.said[0].confidence, " ".join(entry.slots)


def _entry(identity: bytes, key: bytes, said: str, slots: str) -> Entry:
    return Entry(
        id=os.fsdecode(identity),
        key=os.fsdecode(key),
        said=tuple(Said(*one) for one in json.loads(said)),
        slots=_slots(slots),
    )


def _slots(text: str) -> dict[str, Slot]:
    return {name: Slot(*slot) for name, slot in json.loads(text).items()}


def _writable(text: str) -> str:
    """Without the half surrogates that JSON can hold and SQLite cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
