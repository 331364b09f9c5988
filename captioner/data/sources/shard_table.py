"""The table of a set of shards, built in one pass over every tar: a row for each image with a caption.

An image and a text whose names agree up to the last dot form a sample: ``000/17.jpg`` and ``000/17.txt``,
``.caption`` or ``.json`` (with the fields of ``records.py``), or ``photo.2024.05.01.jpg`` and its ``.txt``. They are
usually adjacent. If not, as in a tar with all images before all texts, unmatched files wait in a table on disk until
the end of the tar. Then those that agree up to the first dot of the last part form a sample, such as ``s0.input.jpg``
and ``s0.outputs.txt``. Each text belongs to one image; other images of the sample are left out and reported.
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
    "CREATE TEMP TABLE image (sample BLOB, stem BLOB, name BLOB, offset INTEGER, size INTEGER, captions TEXT)",
    "CREATE TEMP TABLE text (sample BLOB, stem BLOB, rank INTEGER, captions TEXT)",
    "CREATE INDEX temp.samples ON text (sample)",
    "CREATE INDEX temp.stems ON text (stem)",
)
_LATER = 1 << 40  # more than the images of a tar
# The first waiting image of every sample or stem, a plain name before one with dots, gets the best waiting text.
_MATCH = (
    "UPDATE temp.image SET captions = "
    "(SELECT captions FROM temp.text WHERE text.{key} = image.{key} ORDER BY rank, text.rowid LIMIT 1) "
    f"WHERE rowid IN (SELECT MIN((sample != stem) * {_LATER} + rowid) % {_LATER} FROM temp.image "
    "WHERE captions IS NULL GROUP BY {key})",
    "DELETE FROM temp.text WHERE {key} IN (SELECT {key} FROM temp.image WHERE captions IS NOT NULL)",
)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """An image or caption file of a tar."""

    sample: str  # name up to the first dot of the last part
    stem: str  # name up to the last dot; of a text of ``dog.jpg.txt``, that of the image
    kind: str  # the rest of the name
    offset: int = 0
    size: int = 0
    text: bytes | None = None  # content of a caption file


@dataclass(kw_only=True)
class _Account:
    """Statistics of images and caption files."""

    samples: int = 0
    bare: list[str] = field(default_factory=list)  # images without a caption
    spare: list[str] = field(default_factory=list)  # images of samples whose caption another image has
    broken: dict[str, str] = field(default_factory=dict)  # reasons by unreadable caption file
    texts: int = 0  # caption files
    several: int = 0  # caption files of several lines


def fill(connection: sqlite3.Connection, paths: Sequence[Path], reading: Reading) -> None:
    """Write the rows of all shards. Raises ``DataError`` if more images lack a caption than have one."""
    for table in _TABLES:
        connection.execute(table)
    account, digest = _Account(), hashlib.sha256()
    for shard, path in enumerate(paths):
        for name, offset, size, captions in _samples(connection, (shard, path), reading, account):
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
    bare, spare = account.bare, account.spare
    images = counted(len(bare) + len(spare) + account.samples, "image")
    if bare:
        have, were = agreeing(len(bare), "have"), agreeing(len(bare), "were")
        sentence = f"{where}: {len(bare)} of {images} {have} no caption and {were} left out: {some(bare)}"
        problems.append((sentence, bare))
    if spare:
        why = "since another image of the same sample has the caption"
        sentence = f"{where}: {len(spare)} of {images} {agreeing(len(spare), 'were')} left out, {why}: {some(spare)}"
        problems.append((sentence, spare))
    if len(bare) > account.samples:
        messages = "; ".join(sentence for sentence, _ in problems)
        raise DataError(f"{messages}; too many to continue: add a .txt, .caption or .json of the same name for each")
    if not account.samples:
        raise NotThisForm(f"{where} contains no images with captions; put 1.jpg and 1.txt side by side into a tar")
    note = note_of(account.several, account.texts, reading)
    return [("problems", json.dumps(problems)), ("notes", json.dumps([f"{where}: {note}"] if note else []))]


def _samples(
    connection: sqlite3.Connection, shard: tuple[int, Path], reading: Reading, account: _Account
) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield (name, offset, size, captions) of every image with captions; first those adjacent to their text."""
    number, path = shard
    for group in _groups(path):
        images = [member for member in group if member.text is None]
        texts = [member for member in group if member.text is not None]
        captions, rank = _captions(texts, path, reading, account)
        if images and captions:
            image = images.pop(0)
            yield _name(image), image.offset, image.size, captions
        elif captions:
            keys = _encoded(texts[0].sample), _encoded(texts[0].stem)
            connection.execute("INSERT INTO temp.text VALUES (?, ?, ?, ?)", (*keys, rank, json.dumps(captions)))
        for image in images:
            names = map(_encoded, (image.sample, image.stem, _name(image)))
            row = (*names, image.offset, image.size)
            connection.execute("INSERT INTO temp.image VALUES (?, ?, ?, ?, ?, NULL)", row)
    for key in ("stem", "sample"):
        for statement in _MATCH:
            connection.execute(statement.format(key=key))
    rows = connection.execute("SELECT name, offset, size, captions FROM temp.image ORDER BY rowid")
    unmatched: list[str] = []
    for name, offset, size, matched in rows:
        if matched is None:
            unmatched.append(_decoded(name))
        else:
            yield _decoded(name), offset, size, json.loads(matched)
    connection.execute("DELETE FROM temp.image")
    connection.execute("DELETE FROM temp.text")
    waiting = set(map(_sample, unmatched))
    known = connection.execute("SELECT name FROM sample WHERE shard = ?", (number,)) if unmatched else ()
    captioned = {sample for (name,) in known if (sample := _sample(_decoded(name))) in waiting}
    for name in unmatched:
        (account.spare if _sample(name) in captioned else account.bare).append(name)


def _groups(path: Path) -> Iterator[list[_Member]]:
    """Yield the runs of adjacent members with the same stem, in the order of the tar.

    A kind that comes again begins the next group, so that a group stays small and files of the same name differ.
    """
    group: dict[str, _Member] = {}
    before = ""
    for member in _members(path):
        if group and (member.stem != before or member.kind in group):
            yield list(group.values())
            group = {}
        before = member.stem
        group[member.kind] = member
    if group:
        yield list(group.values())


def _members(path: Path) -> Iterator[_Member]:
    """Yield the images and caption files of a tar."""
    try:
        with path.open("rb") as shard:
            stream = Bounded(shard)
            for member in members(stream):
                sample, (stem, _, kind) = _sample(member.name), member.name.rpartition(".")
                if sample == member.name or sample.endswith("/") or not sample:
                    continue
                if kind.lower() in _TEXTS:
                    if is_image_name(stem) and stem != sample:  # dog.jpg.txt
                        stem = stem.rpartition(".")[0]
                    stream.seek(member.offset)
                    # A text that is too long for a caption counts as empty.
                    text = b"" if member.size > MAX_SIDECAR else stream.read(member.size)
                    yield _Member(sample=sample, stem=stem, kind=member.name[len(stem) + 1 :].lower(), text=text)
                elif is_image_name(f"x.{kind}"):
                    yield _Member(sample=sample, stem=stem, kind=kind, offset=member.offset, size=member.size)
    except (Damaged, EOFError) as error:
        raise DataError(
            f"{shown(path)} is not a complete, uncompressed tar ({error}); unpack a .tar.gz with gunzip, or download "
            "it again"
        ) from None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _captions(texts: Sequence[_Member], path: Path, reading: Reading, account: _Account) -> tuple[list[str], int]:
    """Return the captions of the first text that has some, and its rank; record unreadable texts."""
    for member in sorted(texts, key=_rank):
        where = f"{path}: {_name(member)}"
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
    dotted = member.stem != member.sample or "." in member.kind
    return _TEXTS.index(_last(member.kind)) + len(_TEXTS) * dotted


def _last(kind: str) -> str:
    return kind.rpartition(".")[2].lower()


def _name(member: _Member) -> str:
    return f"{member.stem}.{member.kind}"


def _sample(name: str) -> str:
    """Return a name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
