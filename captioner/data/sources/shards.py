"""Tar files of images and captions (WebDataset shards), with random access and without holding the samples in memory.

In an uncompressed tar every member is a range of bytes. One pass over the headers writes the ranges and captions of all
images into an SQLite table; any sample then takes one query and one read, in any order. So training, shuffling and
resuming work for shards as for files.

``shard_table.py`` defines the samples of a tar.
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

from captioner.data.messages import Problem
from captioner.data.paths import list_folder, shown
from captioner.data.samples import Sample, Samples
from captioner.data.sources import shard_table
from captioner.data.sources.sidecars import Reading
from captioner.data.splits import Dataset
from captioner.errors import DataError
from captioner.system.disk import put_in_place

VERSION = 3  # of the table; others are not read
_ACCOUNT = re.compile(r"(?P<shard>.+?)(?:_stats\.json|\.parquet)", re.IGNORECASE)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(pattern: str) -> list[Path]:
    """Return the thirteen paths of ``train-{000..012}.tar``, with any number of digits; several braces multiply."""
    match = _BRACES.search(pattern)
    if match is None:
        return [Path(pattern)]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [path for n in numbers for path in expand(pattern[: match.start()] + n + pattern[match.end() :])]


def is_shard(name: str) -> bool:
    return name.lower().endswith(".tar")


def in_folder(folder: Path) -> list[Path]:
    """Return the tar files in a folder, in natural order."""
    return [Path(entry.path) for entry in list_folder(str(folder))[0] if is_shard(entry.name)]


def is_account(name: str, beside: Iterable[str]) -> bool:
    """Return whether a file is img2dataset's metadata of a shard: ``00000.parquet``, ``00000_stats.json``.

    ``beside``: the files and folders beside it; a folder may be an unpacked shard.
    """
    match = _ACCOUNT.fullmatch(name)
    if match is None:
        return False
    shard = match["shard"]
    return f"{shard}.tar" in beside or (shard.isdigit() and shard in beside)


def read(paths: Sequence[Path], split: str, reading: Reading = "lines") -> Dataset:
    """Read the samples of these shards as one split. Raises ``DataError`` with the remedy.

    The table is built once and cached for the user; a changed shard leads to a new one.
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
        self.problems: tuple[str, ...] = tuple(Problem(text, names) for text, names in json.loads(facts["problems"]))
        self.notes: tuple[str, ...] = tuple(json.loads(facts["notes"]))

    def __len__(self) -> int:
        return self.size

    def at(self, index: int) -> Sample:
        return self._sample(*self._query("SELECT * FROM sample WHERE place = ?", index))

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


def table_cache() -> Path:
    """Return the folder for the tables in the user's cache. Raises ``RuntimeError`` for a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioner"


def _cache() -> Path:
    """Return the folder of the tables: the user's cache, or a folder of this process if the cache is not writable.

    A shared temporary folder would be unsafe: another user could put a table there.
    """
    try:
        folder = table_cache()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no permission, no home
        pass
    return _own_folder()


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="captioner-")  # accessible to this user only
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
    """Write the table to a temporary file, then rename it: several processes may build it at the same time."""
    handle, partial = tempfile.mkstemp(dir=table.parent, suffix=".partial")
    os.close(handle)
    try:
        with closing(sqlite3.connect(partial)) as connection, connection:
            shard_table.fill(connection, paths, reading)
        put_in_place(partial, table)
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            f"the table of the shards {shown(paths[0])} cannot be written to {table.parent} ({error}); free some space "
            "or set XDG_CACHE_HOME to another folder"
        ) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
