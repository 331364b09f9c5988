"""The table of a set of shards, built in one pass over every tar: a row for each image with a caption.

Files whose names agree up to the first dot of the last part form a sample: ``000/17.jpg`` and ``000/17.txt``,
``.caption`` or ``.json`` (with the fields of ``records.py``), and also ``s0.input.jpg`` and ``s0.outputs.txt``. They
are usually adjacent. If not, as in a tar with all images before all texts, unmatched files wait in a table on disk
until the end of the tar.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captioner.data.messages import agreeing, counted, some
from captioner.data.paths import MAX_SIDECAR, decoded, is_image_name, shown
from captioner.data.sources import records
from captioner.data.sources.rows import NotThisForm, clean
from captioner.data.sources.sidecars import Reading, captions_of, note_of
from captioner.data.tars import Bounded, Damaged, members
from captioner.errors import DataError

_TEXTS = ("caption", "txt", "json")  # in order of preference
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
    """An image or caption file of a tar."""

    stem: str  # name up to the first dot of the last part
    kind: str  # the rest of the name
    offset: int = 0
    size: int = 0
    text: bytes | None = None  # content of a caption file


@dataclass(kw_only=True)
class _Account:
    """Statistics of images and caption files."""

    samples: int = 0
    bare: list[str] = field(default_factory=list)  # images without a caption
    broken: dict[str, str] = field(default_factory=dict)  # reasons by unreadable caption file
    texts: int = 0  # caption files
    several: int = 0  # caption files of several lines


def fill(connection: sqlite3.Connection, paths: Sequence[Path], reading: Reading) -> None:
    """Write the rows of all shards. Raises ``DataError`` if more images lack a caption than have one."""
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
    facts += _messages(account, f"{shown(paths[0])}{more}", reading)
    connection.executemany("INSERT INTO fact VALUES (?, ?)", facts)


def _messages(account: _Account, where: str, reading: Reading) -> list[tuple[str, str]]:
    problems: list[tuple[str, list[str]]] = []
    if account.broken:
        first = next(iter(account.broken.values()))
        what = f"{counted(len(account.broken), 'caption file')} cannot be read, the first because: {first}"
        problems.append((f"{where}: {what}", list(account.broken)))
    bare = account.bare
    if bare:
        have, were = agreeing(len(bare), "have"), agreeing(len(bare), "were")
        share = f"{len(bare)} of {counted(len(bare) + account.samples, 'image')}"
        problems.append((f"{where}: {share} {have} no caption and {were} left out: {some(bare)}", bare))
    if len(bare) > account.samples:
        messages = "; ".join(sentence for sentence, _ in problems)
        raise DataError(f"{messages}; too many to continue: add a .txt, .caption or .json of the same name for each")
    if not account.samples:
        raise NotThisForm(f"{where} contains no images with captions; put 1.jpg and 1.txt side by side into a tar")
    note = note_of(account.several, account.texts, reading)
    return [("problems", json.dumps(problems)), ("notes", json.dumps([f"{where}: {note}"] if note else []))]


def _samples(
    connection: sqlite3.Connection, path: Path, reading: Reading, account: _Account
) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield (name, offset, size, captions) of every image with captions; first those adjacent to their text."""
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
    matching_text = "SELECT captions FROM temp.text WHERE text.stem = image.stem ORDER BY rank, text.rowid LIMIT 1"
    for name, offset, size, matched in connection.execute(
        f"SELECT name, offset, size, ({matching_text}) FROM temp.image ORDER BY image.rowid"
    ):
        if matched is None:
            account.bare.append(name.decode("utf-8", "surrogateescape"))
        else:
            yield name.decode("utf-8", "surrogateescape"), offset, size, json.loads(matched)
    connection.execute("DELETE FROM temp.image")
    connection.execute("DELETE FROM temp.text")


def _groups(path: Path) -> Iterator[tuple[str, list[_Member], list[_Member]]]:
    """Yield the images and the texts of every run of adjacent members with the same stem, in the order of the tar.

    Only the first of each kind is kept, since a run may have any length.
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
    """Yield the images and caption files of a tar."""
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
                    # A text that is too long for a caption counts as empty.
                    text = b"" if member.size > MAX_SIDECAR else stream.read(member.size)
                    yield _Member(stem=name, kind=kind.lower(), text=text)
                elif is_image_name(f"x.{kind}"):
                    yield _Member(stem=name, kind=kind, offset=member.offset, size=member.size)
    except (Damaged, EOFError) as error:
        raise DataError(
            f"{shown(path)} is not a complete, uncompressed tar ({error}); unpack a .tar.gz with gunzip, or download "
            "it again"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _captions(
    stem: str, texts: Sequence[_Member], path: Path, reading: Reading, account: _Account
) -> tuple[list[str], int]:
    """Return the captions of a sample's first text that has some, and its rank; record unreadable texts."""
    for member in sorted(texts, key=_rank):
        where = f"{path}: {stem}.{member.kind}"
        try:
            text = decoded(member.text or b"")
            if _last(member.kind) == "json":
                lines = list(records.captions_in(records.parse(text, shown(where)), shown(where)) or ())
            else:
                lines = captions_of(text, reading)
                account.texts += bool(lines)
                account.several += len(captions_of(text, "lines")) > 1
        except UnicodeDecodeError:
            account.broken[where] = f"{shown(where)} is not UTF-8 text; save it as UTF-8"
            continue
        except DataError as error:
            account.broken[where] = str(error)
            continue
        if captions := [line for line in map(clean, lines) if line]:
            return captions, _rank(member)
    return [], 0


def _rank(member: _Member) -> int:
    return _TEXTS.index(_last(member.kind)) + len(_TEXTS) * ("." in member.kind)


def _last(kind: str) -> str:
    return kind.rpartition(".")[2].lower()


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
