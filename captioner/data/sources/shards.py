"""Tar files of images and captions (the shards of WebDataset), whose samples are never held in memory together.

An uncompressed tar keeps every member as plain bytes at an offset. One pass over the headers writes where each image
lies and what is said of it into an SQLite table; from then on any sample is one row and one read away, in any order.
So the plans of training, and with them a resumed run, hold for shards as they do for files.

``shard_table.py`` says what in a tar is a sample.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from captioner.data.paths import list_folder, shown
from captioner.data.samples import Sample, Samples
from captioner.data.sources import shard_table
from captioner.data.sources.sidecars import Reading
from captioner.data.splits import Dataset
from captioner.data.told import Problem
from captioner.disk import put_in_place
from captioner.errors import DataError

VERSION = 2  # of the table: another one is not read
_ACCOUNT = re.compile(r"(?P<shard>.+?)(?:_stats\.json|\.parquet)", re.IGNORECASE)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(pattern: str) -> list[Path]:
    """``train-{000..012}.tar`` as its thirteen paths, whatever the number of digits; several braces multiply."""
    found = _BRACES.search(pattern)
    if found is None:
        return [Path(pattern)]
    first, last = found.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [path for n in numbers for path in expand(pattern[: found.start()] + n + pattern[found.end() :])]


def is_shard(name: str) -> bool:
    return name.lower().endswith(".tar")


def in_folder(folder: Path) -> list[Path]:
    """The tar files that lie in a folder, in natural order."""
    return [Path(entry.path) for entry in list_folder(str(folder))[0] if is_shard(entry.name)]


def is_account(name: str, beside: Iterable[str]) -> bool:
    """Whether a file tells how a shard was made, as img2dataset writes it: ``00000.parquet``, ``00000_stats.json``.

    ``beside`` are the files and folders where it lies; a folder may stand for a shard that is not packed.
    """
    found = _ACCOUNT.fullmatch(name)
    if found is None:
        return False
    shard = found["shard"]
    return f"{shard}.tar" in beside or (shard.isdigit() and shard in beside)


def read(paths: Sequence[Path], split: str, reading: Reading = "lines") -> Dataset:
    """The samples of these shards under one split. Raises ``DataError`` with the remedy.

    The table is made once and kept among the user's caches; a shard that has changed makes another one.
    """
    table = _cache() / f"shards-{_identity(paths, reading)}.sqlite"
    if not table.exists():
        _build(paths, table, reading)
    samples = ShardSamples(table, paths)
    return Dataset(splits={split: samples}, problems=samples.problems, notes=samples.notes)


class ShardSamples(Samples):
    """The samples of a table, in the order of the shards and of their members."""

    def __init__(self, table: Path, paths: Sequence[Path]) -> None:
        self.table, self.paths = table, list(paths)
        self._open: tuple[int, sqlite3.Connection] | None = None
        facts = dict(self._query("SELECT name, value FROM fact"))
        self.size, self.fingerprint = int(facts["count"]), str(facts["fingerprint"])
        self.problems: tuple[str, ...] = tuple(Problem(told, names) for told, names in json.loads(facts["problems"]))
        self.notes: tuple[str, ...] = tuple(json.loads(facts["notes"]))

    def __len__(self) -> int:
        return self.size

    def at(self, place: int) -> Sample:
        return self._sample(*self._query("SELECT * FROM sample WHERE place = ?", place))

    def __iter__(self) -> Iterator[Sample]:
        for row in self._query("SELECT * FROM sample ORDER BY place"):
            yield self._sample(row)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _sample(self, row: tuple[Any, ...]) -> Sample:
        _, name, shard, offset, size, captions = row
        return Sample(
            name=_decoded(name),
            path=self.paths[shard],
            captions=tuple(json.loads(captions)),
            span=(offset, size),
        )

    def _query(self, query: str, *values: object) -> Iterable[tuple[Any, ...]]:
        if self._open is None or self._open[0] != os.getpid():  # a connection must not be shared with a forked worker
            uri = f"{self.table.resolve().as_uri()}?mode=ro&immutable=1"
            self._open = os.getpid(), sqlite3.connect(uri, uri=True, check_same_thread=False)
        return self._open[1].execute(query, values)


def _cache() -> Path:
    """Return the folder of the tables: the user's cache, or a folder of this process where that cannot be written.

    A temporary folder that all users share is no place for it: another user could put a table there.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioner"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return _own_folder()


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="captioner-")  # readable and writable by this user alone
    atexit.register(_remove, folder, os.getpid())
    return Path(folder)


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # a forked child ends before its parent
        shutil.rmtree(folder, ignore_errors=True)


def _identity(paths: Sequence[Path], reading: Reading) -> str:
    digest = hashlib.sha256(f"{VERSION} {reading}".encode())
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None
        line = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _build(paths: Sequence[Path], table: Path, reading: Reading) -> None:
    """Write the table beside its place and move it there when it is whole: several processes may be at it."""
    handle, partial = tempfile.mkstemp(dir=table.parent, suffix=".partial")
    os.close(handle)
    try:
        with closing(sqlite3.connect(partial)) as connection, connection:
            shard_table.fill(connection, paths, reading)
        put_in_place(partial, table)
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            f"the table of {shown(paths[0])} and its like cannot be written in {table.parent} ({error}); free some "
            "space or set XDG_CACHE_HOME to another folder"
        ) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
