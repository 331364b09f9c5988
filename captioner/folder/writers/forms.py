"""The formats of tables: serialising rows, and parsing them with the photo that each names."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, AnyStr, TextIO

from captioner.data.cells import COLUMNS, OLDER, guarded, is_ours, unguarded
from captioner.data.paths import shown
from captioner.data.urls import is_url
from captioner.errors import OutputError
from captioner.folder.entry import CaptionRecord

_LONGEST = 4 << 20  # characters of a line
_WHOLE = 1 << 30  # bytes of a COCO file without line breaks between records
_COCO = re.compile(r"(?:.*_)?(\d{12})")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of an existing table."""

    raw: bytes
    name: str | None  # its photo; None if unknown
    text: str = ""  # its caption


@dataclass(frozen=True, kw_only=True)
class Form:
    """The format of a table."""

    file: str  # name of the table, with a placeholder for the shard
    live: bool  # rows can be appended
    spell: Callable[[str, list[str], tuple[CaptionRecord, ...]], list[bytes]]  # name, texts to write, captions -> rows
    read: Callable[[str], Iterator[Row]]  # path -> rows
    head: bytes = b""
    between: bytes = b""
    foot: bytes = b""
    outdated: Callable[[str], bool] = lambda path: False  # path -> whether the table has fewer columns than new rows


def json_line(record: object) -> bytes:
    """Return a record as JSON in UTF-8; names that are not UTF-8 become surrogate escapes, which JSON allows."""
    try:
        return json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(record).encode()


def _figures(caption: CaptionRecord) -> dict[str, float]:
    return {"score": round(caption.score, 4), "confidence": round(caption.confidence, 4)}


def _yes(caption: CaptionRecord) -> str:
    return "true" if caption.unsure else ""


def _json_figures(caption: CaptionRecord) -> dict[str, float]:
    return {**_figures(caption), **({"unsure": True} if caption.unsure else {})}


def _spell_jsonl(name: str, texts: list[str], captions: tuple[CaptionRecord, ...]) -> list[bytes]:
    first, *others = (
        {"caption": text, **_json_figures(caption)} for text, caption in zip(texts, captions, strict=True)
    )
    labels = [[text, round(probability, 4)] for text, probability in captions[0].labels]
    more = {key: value for key, value in (("labels", labels), ("alternatives", others)) if value}
    return [json_line({"path": name, **first, **more}) + b"\n"]


def _spell_metadata(name: str, texts: list[str], captions: tuple[CaptionRecord, ...]) -> list[bytes]:
    if os.path.isabs(name) or is_url(name):
        raise OutputError(f"cannot name {shown(name)} in metadata.jsonl: it is outside its folder; write jsonl instead")
    return [json_line({"file_name": name, "text": texts if len(texts) > 1 else texts[0]}) + b"\n"]


def _spell_coco(name: str, texts: list[str], captions: tuple[CaptionRecord, ...]) -> list[bytes]:
    """Serialise rows with COCO's image id if the name has one (``COCO_val2014_000000391895.jpg``), else the name."""
    number = _COCO.fullmatch(os.path.splitext(name.rpartition("/")[2])[0])
    image = int(number[1]) if number else name
    return [json_line({"image_id": image, "caption": text, "file_name": name}) for text in texts]


def _spell_csv(name: str, texts: list[str], captions: tuple[CaptionRecord, ...]) -> list[bytes]:
    if not _is_utf8(name):
        raise OutputError(f"cannot name {shown(name)} in a CSV file: its name is not UTF-8; write jsonl, or rename it")
    labels = guarded(", ".join(label for label, _ in captions[0].labels))
    pairs = zip(texts, captions, strict=True)
    rows = (
        [guarded(name), guarded(text), *_figures(caption).values(), labels, _yes(caption)] for text, caption in pairs
    )
    return [_csv_line(row) for row in rows]


def _csv_line(cells: Iterable[object]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode("utf-8", "replace")


def _read_json_lines(path: str, image: str, caption: str) -> Iterator[Row]:
    """Yield the rows of a JSON lines file; keep lines that are not records, but not a truncated last line."""
    with open(path, "rb") as file:
        for line in _lines(file, path):
            record = _parsed(line)
            if record is None and not line.endswith(b"\n"):
                return
            yield _json_row(line.rstrip(b"\r\n") + b"\n", record, image, caption)


def _read_coco(path: str) -> Iterator[Row]:
    """Yield the rows of a COCO file, line by line if it has one record per line, else from the whole file."""
    with open(path, "rb") as file:
        by_line = file.readline(_LONGEST).strip() == b"["
        for line in _lines(file, path) if by_line else ():
            text = line.strip().rstrip(b",")
            if text == b"]":
                return
            record = _parsed(text)
            if not isinstance(record, dict):
                break
            yield _json_row(text, record, "file_name", "caption")
        if by_line:
            raise _invalid(path, "is damaged")
        file.seek(0)
        records = _parsed(file.read(_WHOLE))
        if file.read(1):
            raise _invalid(path, f"is one line of more than {_WHOLE >> 20} MB")
    if not isinstance(records, list):
        raise _invalid(path, "is not a list of COCO results")
    for record in records:
        yield _json_row(json_line(record), record, "file_name", "caption")


def _read_csv(path: str) -> Iterator[Row]:
    """Yield the rows of a CSV file; drop a truncated last row, but not one that only lacks its line break."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = _csv_rows(file, path)
        head = next(rows, None)
        if head is not None and not is_ours(head):
            raise _invalid(path, f"has other columns than {', '.join(COLUMNS)}")
        last: list[str] | None = None
        for cells in rows:
            if last is not None:
                yield _csv_row(last)
            last = cells
        if last is not None and (len(last) == len(head or ()) or ends_a_line(path)):
            yield _csv_row(last)


def _csv_rows(file: TextIO, path: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(_lines(file, path))
    except csv.Error as error:
        raise _invalid(path, f"is not valid CSV ({error})") from None


def _lines(file: IO[AnyStr], path: str) -> Iterator[AnyStr]:
    """Yield the lines of a table; raise ``OutputError`` for one that is too long for memory."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise _invalid(path, f"has a line of more than {_LONGEST >> 20} MB")
        yield line


def _csv_row(cells: list[str]) -> Row:
    if len(cells) in map(len, OLDER):
        cells = [*cells, *[""] * (len(COLUMNS) - len(cells))]
    name, text = map(unguarded, cells[:2]) if len(cells) == len(COLUMNS) else (None, "")
    return Row(raw=_csv_line(cells), name=name, text=text)


def _is_older(path: str) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return tuple(next(_csv_rows(file, path), ())) in OLDER


def _json_row(raw: bytes, record: Any, image: str, caption: str) -> Row:
    if not isinstance(record, dict) or not isinstance(record.get(image), str):
        return Row(raw=raw, name=None)
    text = record.get(caption)
    texts = [item for item in (text if isinstance(text, list) else [text]) if isinstance(item, str)]
    return Row(raw=raw, name=record[image] if _is_name(record[image]) else None, text="\n".join(texts))


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_name(text: str) -> bool:
    """Return whether ``text`` can be a file name; JSON may contain lone surrogates and null characters."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def ends_a_line(path: str) -> bool:
    """Return whether rows can be appended to the file; True for a missing file."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return True
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _invalid(path: str, what: str) -> OutputError:
    return OutputError(f"{shown(path)} {what}; move it away, or write elsewhere with --out DIR")


_JSONL = Form(
    file="captions{}.jsonl",
    live=True,
    spell=_spell_jsonl,
    read=lambda path: _read_json_lines(path, "path", "caption"),
)
FORMS = {
    "jsonl": _JSONL,
    "csv": Form(
        file="captions{}.csv",
        live=True,
        spell=_spell_csv,
        read=_read_csv,
        head=(",".join(COLUMNS) + "\n").encode(),
        outdated=_is_older,
    ),
    "metadata": Form(
        file="metadata{}.jsonl",
        live=True,
        spell=_spell_metadata,
        read=lambda path: _read_json_lines(path, "file_name", "text"),
    ),
    "coco": Form(
        file="captions{}.coco.json",
        live=False,
        spell=_spell_coco,
        read=_read_coco,
        head=b"[\n",
        between=b",\n",
        foot=b"\n]\n",
    ),
    "review": replace(_JSONL, file="review{}.jsonl"),
}
