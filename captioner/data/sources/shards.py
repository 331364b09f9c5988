"""Tar files of images and captions (the shards of WebDataset), whose samples are never held in memory together.

An uncompressed tar keeps every member as plain bytes at an offset. One pass over the headers writes where each image
lies and what is said of it into an SQLite table; from then on any sample is one row and one read away, in any order.
So the plans of training, and with them a resumed run, hold for shards as they do for files.

A sample is what shares a name up to the first dot of its last part: ``000/17.jpg`` with ``000/17.txt`` or ``.caption``
(a caption a line) or ``.json`` (the fields that ``records.py`` knows).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from captioner.data.paths import MAX_SIDECAR, is_image_name, list_folder, shown
from captioner.data.samples import Sample, Samples
from captioner.data.sources.records import CAPTION_KEYS, pick
from captioner.data.sources.rows import NotThisForm, clean
from captioner.data.splits import Dataset, some
from captioner.data.tars import Bounded, Damaged, members
from captioner.disk import put_in_place
from captioner.errors import DataError

VERSION = 1  # of the table: another one is not read
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_TEXTS = ("caption", "txt", "json")  # where there are several the first one counts


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


def read(paths: Sequence[Path], split: str) -> Dataset:
    """The samples of these shards under one split. Raises ``DataError`` with the remedy.

    The table is made once and kept among the user's caches; a shard that has changed makes another one.
    """
    table = _cache() / f"shards-{_identity(paths)}.sqlite"
    if not table.exists():
        _build(paths, table)
    samples = ShardSamples(table, paths)
    return Dataset(splits={split: samples}, problems=samples.problems)


class ShardSamples(Samples):
    """The samples of a table, in the order of the shards and of their members."""

    def __init__(self, table: Path, paths: Sequence[Path]) -> None:
        self.table, self.paths = table, list(paths)
        self._open: tuple[int, sqlite3.Connection] | None = None
        facts = dict(self._query("SELECT name, value FROM fact"))
        self.size, self.fingerprint = int(facts["count"]), str(facts["fingerprint"])
        self.problems: tuple[str, ...] = tuple(json.loads(facts["problems"]))

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
    """Where tables are kept: the user's cache, or the system's temporary folder where there is none to write to."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioner"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir())


def _identity(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None
        line = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _build(paths: Sequence[Path], table: Path) -> None:
    """Write the table beside its place and move it there when it is whole: several processes may be at it."""
    handle, partial = tempfile.mkstemp(dir=table.parent, suffix=".partial")
    os.close(handle)
    try:
        with closing(sqlite3.connect(partial)) as connection, connection:
            _fill(connection, paths)
        put_in_place(partial, table)
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            f"the table of {shown(paths[0])} and its like cannot be written in {table.parent} ({error}); free some "
            "space or set XDG_CACHE_HOME to another folder"
        ) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, paths: Sequence[Path]) -> None:
    connection.execute(
        "CREATE TABLE sample (place INTEGER PRIMARY KEY, name BLOB, shard INTEGER, offset INTEGER, size INTEGER, "
        "captions TEXT)"
    )
    connection.execute("CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT)")
    digest = hashlib.sha256()
    count = bare = 0
    examples: list[str] = []
    for shard, path in enumerate(paths):
        for name, offset, size, captions in _samples(path):
            if not captions:
                bare += 1
                examples += [name][: 3 - len(examples)]
                continue
            row = (_encoded(name), shard, offset, size, json.dumps(captions, ensure_ascii=False))
            connection.execute("INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?)", (count, *row))
            digest.update(repr((row[0], captions)).encode("utf-8", "surrogatepass"))
            count += 1
    where = f"{shown(paths[0])}{f' and {len(paths) - 1} more shards' if len(paths) > 1 else ''}"
    problem = f"{where}: {bare} of {bare + count} images have no caption and were left out: {some(examples)}"
    if bare > count:
        raise DataError(f"{problem}; too many to go on: put a .txt, .caption or .json of the same name beside each")
    if not count:
        raise NotThisForm(f"{where} holds no images with captions; put 1.jpg and 1.txt beside each other in a tar")
    problems = json.dumps([problem] if bare else [])
    facts = [("count", str(count)), ("fingerprint", digest.hexdigest()), ("problems", problems)]
    connection.executemany("INSERT INTO fact VALUES (?, ?)", facts)


def _samples(path: Path) -> Iterator[tuple[str, int, int, list[str]]]:
    """(Name, offset, size, captions) of every image in a tar, in its order."""
    before, image = "", None
    texts: dict[str, bytes] = {}
    for name, kind, offset, size, text in _members(path):
        if name != before:
            if image is not None:
                yield (*image, _captions(texts, f"{shown(path)}: {shown(before)}"))
            before, image, texts = name, None, {}
        if text is not None:
            texts[kind] = text
        elif image is None:
            image = f"{name}.{kind}", offset, size
    if image is not None:
        yield (*image, _captions(texts, f"{shown(path)}: {shown(before)}"))


def _members(path: Path) -> Iterator[tuple[str, str, int, int, bytes | None]]:
    """(Name, kind, offset, size, content of a text) of the members that matter."""
    try:
        with path.open("rb") as shard:
            stream = Bounded(shard)
            for member in members(stream):
                folder, slash, last = member.name.rpartition("/")
                stem, dot, kind = last.partition(".")
                if not stem or not dot:
                    continue
                name = folder + slash + stem
                if kind.lower() in _TEXTS:
                    stream.seek(member.offset)
                    # One that is too long to be a caption is none, and is told as what it is then: empty.
                    yield name, kind.lower(), 0, 0, b"" if member.size > MAX_SIDECAR else stream.read(member.size)
                elif is_image_name(f"x.{kind}") and "." not in kind:
                    yield name, kind, member.offset, member.size, None
    except (Damaged, EOFError) as error:
        raise DataError(
            f"{shown(path)} is no whole, uncompressed tar ({error}); unpack a .tar.gz with gunzip, or fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _captions(texts: dict[str, bytes], where: str) -> list[str]:
    kind = next((kind for kind in _TEXTS if kind in texts), None)
    if kind is None:
        return []
    try:
        content = texts[kind].decode("utf-8-sig")
        if kind != "json":
            return [line for line in map(clean, content.splitlines()) if line]
        record = json.loads(content)
    except ValueError:
        raise DataError(f"{where}.{kind} is not {'JSON' if kind == 'json' else 'UTF-8 text'}; correct it") from None
    key = pick(record, CAPTION_KEYS) if isinstance(record, dict) else None
    values = [] if key is None else record[key] if isinstance(record[key], list) else [record[key]]
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{where}.json: {key} must be text or a list of texts; correct it")
    return [line for line in map(clean, values) if line]


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
