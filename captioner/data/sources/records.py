"""JSON records, one per line or in a list: ``{"file_name": "images/1.jpg", "captions": ["...", "..."]}``.

The format of Hugging Face's imagefolder and of most captioning repositories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import read_text, shown
from captioner.data.sources.rows import (
    OWN_FOLDER,
    NotThisForm,
    Reach,
    Row,
    gather,
    is_missing,
    named_split,
    plain_id,
)
from captioner.data.splits import Dataset
from captioner.errors import DataError

IMAGE_KEYS = ("file_name", "filename", "image_name", "image_path", "image_file", "filepath", "image", "path", "file")
CAPTION_KEYS = ("captions", "caption", "text", "sentences", "comment", "sentence", "description", "prompt")
TURN_KEYS = ("conversations", "messages")
"""Fields of a conversation in LLaVA and similar datasets; its first answer is the caption."""


def read(path: Path, reach: Reach = OWN_FOLDER) -> Dataset:
    """Read a JSON lines file. Raises ``DataError`` that names the line."""
    return gather(rows(lines(path), path), path, reach=reach)


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the value of every line with its position ``file:line``, without blank lines."""
    # str.splitlines would also split at characters that JSON strings may contain (U+2028).
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{shown(path)}:{number}", parse(line, f"{shown(path)}:{number}")


def parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise DataError(f"{where} is not valid JSON ({reason}); correct or remove it") from None


def rows(records: Iterable[tuple[str, Any]], path: Path) -> Iterator[Row]:
    """Yield the rows of records with their positions. Raises ``NotThisForm`` if none has a caption."""
    first: Mapping[str, Any] | None = None
    captioned = False
    for where, record in records:
        if not isinstance(record, Mapping):
            raise NotThisForm(f"{where} is not a JSON object with the fields file_name and captions; check the file")
        first = record if first is None else first
        image = pick(record, IMAGE_KEYS)
        if image is None and captioned and pick(record, TURN_KEYS):
            continue  # conversation datasets contain some without an image
        if image is None:
            raise NotThisForm(f"{where} names no image in a field {', '.join(IMAGE_KEYS)}; it has {_keys(record)}")
        name = plain_id(record[image])
        if not name:
            raise DataError(f"{where}: {image} must be the name of an image file, not {_short(record[image])}")
        captions = captions_in(record, where)
        captioned = captioned or captions is not None
        yield Row(image=name, captions=captions or (), split=named_split(record.get("split"), where), where=where)
    if first is not None and not captioned:
        raise NotThisForm(f"{shown(path)} has no captions in a field {', '.join(CAPTION_KEYS)}; it has {_keys(first)}")


def captions_in(record: Any, where: str) -> tuple[str, ...] | None:
    """Return the captions of a record; None without a field for them. Raises ``DataError`` for anything but text."""
    if not isinstance(record, Mapping):
        return None
    if (key := pick(record, CAPTION_KEYS)) is not None:
        return _texts(record[key], f"{where}: {key}")
    if (key := pick(record, TURN_KEYS)) is not None and isinstance(record[key], list):
        return _texts(_answer(record[key]), f"{where}: {key}")
    return None


def _answer(turns: list[Any]) -> Any:
    """Return the first answer of the assistant."""
    for turn in turns:
        if isinstance(turn, Mapping) and str(turn.get("from", turn.get("role"))).lower() in ("gpt", "assistant"):
            return turn.get("value", turn.get("content"))
    return None


def pick(record: Iterable[str], keys: tuple[str, ...]) -> str | None:
    """Return the first of ``keys`` that the record has."""
    existing = set(record)
    return next((key for key in keys if key in existing), None)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    texts = ["" if is_missing(text) else text for text in (value if isinstance(value, list) else [value])]
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where} must be text or a list of texts, not {_short(text)}")
    return tuple(texts)


def _keys(record: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(record)[:10])) or "none"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
