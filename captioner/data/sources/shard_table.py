"""The table of a set of shards: one pass over every tar, and a row for each image that has a caption.

A sample is what shares a name up to the first dot of its last part: ``000/17.jpg`` with ``000/17.txt`` or ``.caption``
or ``.json`` (the fields that ``records.py`` knows), and also ``s0.input.jpg`` with ``s0.outputs.txt``. Its files
usually follow each other. Where they do not, as in a tar of all images before all texts, what is left without its other
half waits in a table on disk until the tar has been read.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captioner.data.paths import MAX_SIDECAR, decoded, is_image_name, shown
from captioner.data.sources import records
from captioner.data.sources.rows import NotThisForm, clean
from captioner.data.sources.sidecars import Reading, captions_of, note_of
from captioner.data.tars import Bounded, Damaged, members
from captioner.data.told import agreeing, counted, some
from captioner.errors import DataError

_TEXTS = ("caption", "txt", "json")  # where there are several the first one counts
_TABLES = (
    "CREATE TABLE sample (place INTEGER PRIMARY KEY, name BLOB, shard INTEGER, offset INTEGER, size INTEGER, "
    "captions TEXT)",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TEMP TABLE image (stem BLOB, name BLOB, offset INTEGER, size INTEGER)",
    "CREATE TEMP TABLE text (stem BLOB, rank INTEGER, captions TEXT)",
    "CREATE INDEX temp.stems ON text (stem)",
)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """An image of a tar, or a text with its content."""

    stem: str
    kind: str
    offset: int = 0
    size: int = 0
    text: bytes | None = None


@dataclass(kw_only=True)
class _Account:
    """What became of the images and of their texts."""

    samples: int = 0
    bare: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    several: int = 0


def fill(connection: sqlite3.Connection, paths: Sequence[Path], reading: Reading) -> None:
    """Write the rows of all shards. Raises ``DataError`` where more images lack a caption than have one."""
    for table in _TABLES:
        connection.execute(table)
    account, digest = _Account(), hashlib.sha256()
    for shard, path in enumerate(paths):
        for name, offset, size, captions in _samples(connection, path, reading, account):
            row = (_encoded(name), shard, offset, size, json.dumps(captions, ensure_ascii=False))
            connection.execute("INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?)", (account.samples, *row))
            digest.update(repr((row[0], captions)).encode("utf-8", "surrogatepass"))
            account.samples += 1
    more = f" and {counted(len(paths) - 1, 'more shard')}" if len(paths) > 1 else ""
    facts = [("count", str(account.samples)), ("fingerprint", digest.hexdigest())]
    facts += _told(account, f"{shown(paths[0])}{more}", reading)
    connection.executemany("INSERT INTO fact VALUES (?, ?)", facts)


def _told(account: _Account, where: str, reading: Reading) -> list[tuple[str, str]]:
    problems: list[tuple[str, list[str]]] = []
    if account.broken:
        first = next(iter(account.broken.values()))
        what = f"{counted(len(account.broken), 'caption file')} cannot be read, the first for this reason: {first}"
        problems.append((f"{where}: {what}", list(account.broken)))
    bare = account.bare
    if bare:
        has, were = agreeing(len(bare), "have"), agreeing(len(bare), "were")
        of = f"{len(bare)} of {counted(len(bare) + account.samples, 'image')}"
        problems.append((f"{where}: {of} {has} no caption and {were} left out: {some(bare)}", bare))
    if len(bare) > account.samples:
        told = "; ".join(sentence for sentence, _ in problems)
        raise DataError(f"{told}; too many to go on: put a .txt, .caption or .json of the same name beside each")
    if not account.samples:
        raise NotThisForm(f"{where} holds no images with captions; put 1.jpg and 1.txt beside each other in a tar")
    note = note_of(account.several, account.texts, reading)
    return [("problems", json.dumps(problems)), ("notes", json.dumps([f"{where}: {note}"] if note else []))]


def _samples(
    connection: sqlite3.Connection, path: Path, reading: Reading, account: _Account
) -> Iterator[tuple[str, int, int, list[str]]]:
    """(Name, offset, size, captions) of every image that has captions; first those whose text stands beside them."""
    for stem, images, texts in _groups(path):
        captions, rank = _captions(stem, texts, path, reading, account)
        image = min(images, key=lambda member: "." in member.kind, default=None)
        if image is not None and captions:
            yield f"{stem}.{image.kind}", image.offset, image.size, captions
        elif image is not None:
            row = (_encoded(stem), _encoded(f"{stem}.{image.kind}"), image.offset, image.size)
            connection.execute("INSERT INTO temp.image VALUES (?, ?, ?, ?)", row)
        elif captions:
            row_of_text = (_encoded(stem), rank, json.dumps(captions))
            connection.execute("INSERT INTO temp.text VALUES (?, ?, ?)", row_of_text)
    apart = "SELECT captions FROM temp.text WHERE text.stem = image.stem ORDER BY rank, text.rowid LIMIT 1"
    for name, offset, size, found in connection.execute(
        f"SELECT name, offset, size, ({apart}) FROM temp.image ORDER BY image.rowid"
    ):
        if found is None:
            account.bare.append(name.decode("utf-8", "surrogateescape"))
        else:
            yield name.decode("utf-8", "surrogateescape"), offset, size, json.loads(found)
    connection.execute("DELETE FROM temp.image")
    connection.execute("DELETE FROM temp.text")


def _groups(path: Path) -> Iterator[tuple[str, list[_Member], list[_Member]]]:
    """The images and the texts of every stretch of members that share a stem, in the order of the tar.

    Of each kind the first one: a stretch could be of any length.
    """
    before = ""
    images: dict[int, _Member] = {}
    texts: dict[int, _Member] = {}
    for member in _members(path):
        if member.stem != before:
            if before:
                yield before, list(images.values()), list(texts.values())
            before, images, texts = member.stem, {}, {}
        if member.text is None:
            images.setdefault("." in member.kind, member)
        else:
            texts.setdefault(_rank(member), member)
    if before:
        yield before, list(images.values()), list(texts.values())


def _members(path: Path) -> Iterator[_Member]:
    """The members that matter."""
    try:
        with path.open("rb") as shard:
            stream = Bounded(shard)
            for member in members(stream):
                folder, slash, last = member.name.rpartition("/")
                stem, dot, kind = last.partition(".")
                if not stem or not dot:
                    continue
                name = folder + slash + stem
                if _last(kind) in _TEXTS:
                    stream.seek(member.offset)
                    # One that is too long to be a caption is none, and is told as what it is then: empty.
                    text = b"" if member.size > MAX_SIDECAR else stream.read(member.size)
                    yield _Member(stem=name, kind=kind.lower(), text=text)
                elif is_image_name(f"x.{kind}"):
                    yield _Member(stem=name, kind=kind, offset=member.offset, size=member.size)
    except (Damaged, EOFError) as error:
        raise DataError(
            f"{shown(path)} is no whole, uncompressed tar ({error}); unpack a .tar.gz with gunzip, or fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _captions(
    stem: str, texts: Sequence[_Member], path: Path, reading: Reading, account: _Account
) -> tuple[list[str], int]:
    """The captions in the first of a sample's texts that holds some, and its rank; what is broken is noted."""
    for member in sorted(texts, key=_rank):
        where = f"{path}: {stem}.{member.kind}"
        try:
            text = decoded(member.text or b"")
            if _last(member.kind) == "json":
                found = list(records.captions_in(records.parse(text, shown(where)), shown(where)) or ())
            else:
                found = captions_of(text, reading)
                account.texts += bool(found)
                account.several += len(captions_of(text, "lines")) > 1
        except UnicodeDecodeError:
            account.broken[where] = f"{shown(where)} is not UTF-8 text; correct it"
            continue
        except DataError as error:
            account.broken[where] = str(error)
            continue
        if captions := [line for line in map(clean, found) if line]:
            return captions, _rank(member)
    return [], 0


def _rank(member: _Member) -> int:
    return _TEXTS.index(_last(member.kind)) + len(_TEXTS) * ("." in member.kind)


def _last(kind: str) -> str:
    return kind.rpartition(".")[2].lower()


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
