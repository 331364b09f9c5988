"""What a run remembers on disk, so that it goes on after any end: an SQLite file beside the tables.

A photo's captions are committed, with the texts that they replace, before a file is touched, and marked as written
after it: whatever dies in between is written again, to the same end. The journal lives as long as its run. A run over a
million photos asks it for what it must not hold in memory.

The file may come with a folder that another person made. It is opened only as this user's own, with these tables and
nothing else in it, and each value is looked at as it is read; ``Outputs`` looks at where its files are to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.entry import Entry, Said, Slot
from captioner.folder.own import refuse_foreign

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (output TEXT, name BLOB, text TEXT NOT NULL, PRIMARY KEY (output, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id BLOB NOT NULL,
    said TEXT NOT NULL, slots TEXT NOT NULL, confidence REAL NOT NULL, waiting TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS waiting ON done (place) WHERE waiting != '';
CREATE INDEX IF NOT EXISTS doubt ON done (confidence);
"""
_PAGE = 256  # rows that are in memory at once
_LONGEST = 8 << 20  # bytes of one value
_TOKEN = re.compile(r"[0-9a-f]{8}")
_STRANGE = (ValueError, TypeError, AttributeError, RecursionError)  # what values of other kinds than ours raise


class Journal:
    """The memory of one run. ``path`` None: of a run that leaves nothing to go on with, in a temporary file.

    ``resumed``: an earlier process has written into it.

    Raises ``OutputError`` where it cannot be kept: a run without its memory may not go on.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.token = secrets.token_hex(4)
        if path:
            _refuse_planted(path)
        with self._told():
            self._base = sqlite3.connect(path or "", isolation_level=None)
        try:
            with self._told():
                self._open()
            self.resumed = self.get("run") is not None
        except BaseException:
            self.close()
            raise

    def get(self, name: str) -> Any:
        """A setting of the run, or None."""
        with self._told():
            row = self._base.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        with self._checked():
            return json.loads(row[0]) if row else None

    def number(self, name: str) -> int:
        """A setting that is a whole number of 0 or more; 0 where there is none."""
        value = self.get(name) or 0
        if not isinstance(value, int) or value < 0:
            raise self._strange(f"its {name} is {value!r}")
        return value

    @property
    def tokens(self) -> list[str]:
        """The tokens of the processes that have been at work on this run."""
        found = self.get("tokens")
        listed = found if isinstance(found, list) else []
        return [one for one in listed if isinstance(one, str) and _TOKEN.fullmatch(one)]

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
        with self._checked():
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
                counts[max(0, part or 0)] += count
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

    def _open(self) -> None:
        if sys.version_info >= (3, 11):
            self._base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        self._base.execute("PRAGMA trusted_schema = OFF")
        # Whoever runs holds the lock of the folder, so the journal needs none of its own, nor shared memory.
        self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._base.execute(f"PRAGMA journal_mode = {'WAL' if self.path else 'OFF'}")
        self._base.execute(f"PRAGMA synchronous = {'FULL' if self.path else 'OFF'}")
        there = _tables(self._base)
        if there and not there <= _ours():  # a trigger or a view would do more than a table of that name
            raise self._strange("it holds other tables than a journal")
        self._base.executescript(_SCHEMA)

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
            with self._checked():
                found = [(_entry(*row[2:]), str(row[1])) for row in rows]
            yield from found

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

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        """Values that no run has written, as sentences."""
        try:
            yield
        except _STRANGE:
            raise self._strange("a value in it is damaged") from None

    def _strange(self, why: str) -> OutputError:
        return OutputError(
            f"{shown(self.path or '')} is no journal of a run here: {why}; move it away, and start afresh"
        )


def _refuse_planted(path: str) -> None:
    """Raise ``OutputError`` for a journal, or a file that SQLite reads beside it, that is not this user's own.

    A rollback journal is removed unread: a run writes none once its tables are there, and one from elsewhere may name
    any file, which SQLite would delete.
    """
    for end in ("", "-wal", "-shm"):
        refuse_foreign(path + end, "the journal of a run")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + "-journal")


def _tables(base: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(base.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _ours() -> set[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.executescript(_SCHEMA)
        return _tables(base)


def _row(entry: Entry) -> tuple[object, ...]:
    said = json.dumps([[one.text, one.score, one.confidence] for one in entry.said])
    slots = json.dumps({name: [slot.file, slot.old] for name, slot in entry.slots.items()})
    key, identity = os.fsencode(entry.key), os.fsencode(entry.id)
    return key, identity, said, slots, entry.said[0].confidence, " ".join(entry.slots)


def _entry(identity: bytes, key: bytes, said: str, slots: str) -> Entry:
    found = tuple(Said(str(text), float(score), float(confidence)) for text, score, confidence in json.loads(said))
    if not found:
        raise ValueError
    return Entry(id=os.fsdecode(identity), key=os.fsdecode(key), said=found, slots=_slots(slots))


def _slots(text: str) -> dict[str, Slot]:
    return {name: Slot(_text(file), _text(old)) for name, (file, old) in json.loads(text).items()}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _writable(text: str) -> str:
    """Without the half surrogates that JSON can hold and SQLite cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
