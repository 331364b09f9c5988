"""The journal of a run, for resuming after any interrupt: an SQLite file beside the tables.

A run commits a photo's captions, with the texts that they replace, before it writes a file, and marks them as written
afterwards. After a crash in between it writes them again, with the same result. The journal is removed at the end of
its run. It also holds what a run over a million photos cannot keep in memory.

The file may be part of a folder that another person made. The journal only opens a file of this user with exactly these
tables, and checks each value that it reads; ``Outputs`` checks the paths of its files.
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
from captioner.folder.entry import CaptionRecord, Entry, Slot
from captioner.folder.own import refuse_foreign

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (output TEXT, name BLOB, text TEXT NOT NULL, PRIMARY KEY (output, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id BLOB NOT NULL,
    said TEXT NOT NULL, slots TEXT NOT NULL, confidence REAL NOT NULL, waiting TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS waiting ON done (place) WHERE waiting != '';
CREATE INDEX IF NOT EXISTS doubt ON done (confidence);
"""
_PAGE = 256  # rows per query
_LONGEST = 8 << 20  # bytes of one value
_TOKEN = re.compile(r"[0-9a-f]{8}")
_INVALID = (ValueError, TypeError, AttributeError, RecursionError)  # errors of parsing invalid values


class Journal:
    """The journal of one run; with ``path`` None a temporary file, for a run that cannot be resumed.

    ``resumed``: an earlier process has written to it. Raises ``OutputError`` if it cannot be opened or written.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.token = secrets.token_hex(4)
        if path:
            _check_owner(path)
        with self._sqlite_errors():
            self._database = sqlite3.connect(path or "", isolation_level=None)
        try:
            with self._sqlite_errors():
                self._open()
            self.resumed = self.get("run") is not None
        except BaseException:
            self.close()
            raise

    def get(self, name: str) -> Any:
        """Return a setting of the run, or None."""
        with self._sqlite_errors():
            row = self._database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        with self._value_errors():
            return json.loads(row[0]) if row else None

    def number(self, name: str) -> int:
        """Return a setting that is a whole number of at least 0; 0 if it is missing."""
        value = self.get(name) or 0
        if not isinstance(value, int) or value < 0:
            raise self._invalid(f"its {name} is {value!r}")
        return value

    @property
    def tokens(self) -> list[str]:
        """The tokens of all processes of this run."""
        value = self.get("tokens")
        tokens = value if isinstance(value, list) else []
        return [token for token in tokens if isinstance(token, str) and _TOKEN.fullmatch(token)]

    def put(self, **values: Any) -> None:
        with self._sqlite_errors(), self._transaction():
            self._set(values)

    def learn(self, output: str, rows: Iterable[tuple[str, str]]) -> None:
        """Store the names and captions of an existing table."""
        with self._sqlite_errors(), self._transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO known VALUES (?, ?, ?)",
                ((output, os.fsencode(name), _writable(text)) for name, text in rows),
            )

    def known(self, output: str, name: str) -> str | None:
        """Return the caption that a table held before this run; None for a photo without a row."""
        with self._sqlite_errors():
            row = self._database.execute(
                "SELECT text FROM known WHERE output = ? AND name = ?", (output, os.fsencode(name))
            ).fetchone()
        return str(row[0]) if row else None

    def has(self, key: str) -> bool:
        """Return whether this run has captioned the photo."""
        with self._sqlite_errors():
            row = self._database.execute("SELECT 1 FROM done WHERE key = ?", (os.fsencode(key),)).fetchone()
        return row is not None

    def slots(self, key: str) -> dict[str, Slot]:
        """Return the slots of the photo's captions, written or not."""
        with self._sqlite_errors():
            row = self._database.execute("SELECT slots FROM done WHERE key = ?", (os.fsencode(key),)).fetchone()
        with self._value_errors():
            return _slots(row[0]) if row else {}

    def add(self, entries: Sequence[Entry]) -> None:
        """Store captions before they are written."""
        with self._sqlite_errors(), self._transaction():
            self._database.executemany(
                "INSERT OR IGNORE INTO done (key, id, said, slots, confidence, waiting) VALUES (?, ?, ?, ?, ?, ?)",
                map(_row, entries),
            )

    def settle(self, left: Mapping[str, Iterable[str]], settings: Mapping[str, Any]) -> None:
        """Store the outputs that are ``left`` to write, by a photo's key, and the new settings."""
        with self._sqlite_errors(), self._transaction():
            rows = [(" ".join(outputs), os.fsencode(key)) for key, outputs in left.items()]
            self._database.executemany("UPDATE done SET waiting = ? WHERE key = ?", rows)
            self._set(settings)

    def waiting(self) -> Iterator[tuple[Entry, set[str]]]:
        """Yield the unwritten captions, in order, with the outputs that lack them."""
        return ((entry, set(outputs.split())) for entry, outputs in self._entries("waiting != ''"))

    def entries(self, output: str) -> Iterator[Entry]:
        """Yield all captions of this run for an output, in order, written or not."""
        return (entry for entry, _ in self._entries("1") if output in entry.slots)

    def sample(self, most: int) -> list[Entry]:
        """Return all captions in order, or beyond ``most`` the least and most confident ones and a sample."""
        count, part = sum(self.confidences(1)), most // 4
        condition = "1"
        if count > most:
            lowest = f"SELECT place FROM done ORDER BY confidence LIMIT {2 * part}"
            highest = f"SELECT place FROM done ORDER BY confidence DESC LIMIT {part}"
            condition = f"(place IN ({lowest}) OR place IN ({highest}) OR place % {-(-count // part)} = 0)"
        return [entry for entry, _ in self._entries(condition)]

    def confidences(self, bins: int) -> list[int]:
        """Return the histogram of confidences, 0 to 1, over ``bins`` equal bins."""
        counts = [0] * bins
        with self._sqlite_errors():
            rows = self._database.execute(
                "SELECT min(CAST(confidence * ? AS INTEGER), ? - 1) AS part, count(*) FROM done GROUP BY part",
                (bins, bins),
            )
            for part, count in rows:
                counts[max(0, part or 0)] += count
        return counts

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def remove(self) -> None:
        """Delete the journal."""
        self.close()
        if self.path:
            for end in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + end)

    def _open(self) -> None:
        if sys.version_info >= (3, 11):
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        self._database.execute("PRAGMA trusted_schema = OFF")
        # The run holds the lock of the folder, so the journal needs no lock of its own and no shared memory.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute(f"PRAGMA journal_mode = {'WAL' if self.path else 'OFF'}")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if self.path else 'OFF'}")
        existing = _schema_of(self._database)
        if existing and not existing <= _own_schema():  # a trigger or view could do more than a table of that name
            raise self._invalid("it holds other tables than a journal")
        self._database.executescript(_SCHEMA)

    def _set(self, values: Mapping[str, Any]) -> None:
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        self._database.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def _entries(self, condition: str) -> Iterator[tuple[Entry, str]]:
        last = -1
        while True:
            with self._sqlite_errors():
                rows = self._database.execute(
                    "SELECT place, waiting, id, key, said, slots FROM done "
                    f"WHERE place > ? AND {condition} ORDER BY place LIMIT {_PAGE}",
                    (last,),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            with self._value_errors():
                entries = [(_entry(*row[2:]), str(row[1])) for row in rows]
            yield from entries

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run the block as one transaction."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextlib.contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ``OutputError``."""
        try:
            yield
        except sqlite3.Error as error:
            name = shown(self.path) if self.path else "a temporary file"
            text = str(error).lower()
            if "full" in text or "disk i/o" in text:
                why = "the disk is full or broken; free some space and repeat the command to resume"
            elif "readonly" in text or "unable to open" in text:
                why = "permission denied; write elsewhere with --out DIR"
            elif "locked" in text:
                why = "another process has it open; wait for it to end"
            else:
                why = f"{error}; remove it to start a new run"
            raise OutputError(f"cannot use the journal of the run in {name}: {why}") from error

    @contextlib.contextmanager
    def _value_errors(self) -> Iterator[None]:
        """Turn errors of invalid values into ``OutputError``."""
        try:
            yield
        except _INVALID:
            raise self._invalid("a value in it is damaged") from None

    def _invalid(self, why: str) -> OutputError:
        return OutputError(
            f"{shown(self.path or '')} is not the journal of a run here: {why}; move it away to start a new run"
        )


def _check_owner(path: str) -> None:
    """Raise ``OutputError`` unless the journal, and SQLite's files beside it, are regular files of this user.

    A rollback journal is removed unread: a run writes none after it has created its tables, and a foreign one may name
    any file, which SQLite would delete.
    """
    for end in ("", "-wal", "-shm"):
        refuse_foreign(path + end, "the journal of a run")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + "-journal")


def _schema_of(database: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _own_schema() -> set[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_SCHEMA)
        return _schema_of(database)


def _row(entry: Entry) -> tuple[object, ...]:
    captions = json.dumps([[c.text, c.score, c.confidence, c.labels, c.unsure] for c in entry.captions])
    slots = json.dumps({name: [slot.file, slot.old] for name, slot in entry.slots.items()})
    key, identity = os.fsencode(entry.key), os.fsencode(entry.id)
    return key, identity, captions, slots, entry.captions[0].confidence, " ".join(entry.slots)


def _entry(identity: bytes, key: bytes, values: str, slots: str) -> Entry:
    captions = tuple(CaptionRecord.of(*parts) for parts in json.loads(values))
    if not captions:
        raise ValueError
    return Entry(id=os.fsdecode(identity), key=os.fsdecode(key), captions=captions, slots=_slots(slots))


def _slots(text: str) -> dict[str, Slot]:
    return {name: Slot(_text(file), _text(old)) for name, (file, old) in json.loads(text).items()}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _writable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain and SQLite cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
