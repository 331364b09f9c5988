"""Reading one caption file of any format, detected by its suffix and content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from captioner.data.paths import read_text, shown
from captioner.data.sources import by_name, coco, karpathy, parquet, records, tables, tokens
from captioner.data.sources.rows import OWN_FOLDER, NotThisForm, Reach, gather
from captioner.data.splits import Dataset
from captioner.errors import DataError


def read_file(path: Path, reach: Reach = OWN_FOLDER) -> Dataset:
    """Read a caption file. Raises ``NotThisForm`` if it has no captions, ``DataError`` if it is damaged."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise NotThisForm(f"{shown(path)} has an unknown format; name one of {', '.join(READERS)}, or a folder")
    return reader(path, reach)


def _read_json(path: Path, reach: Reach) -> Dataset:
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{shown(path)} is empty: it contains no captions; check the file")
    try:
        document = records.parse(text, shown(path))
    except DataError:
        if not text.lstrip().startswith("{") or "}\n" not in text.strip():
            raise
        return records.read(path, reach)  # JSON lines with the suffix .json; its errors name the line
    if isinstance(document, list):
        places = ((f"{shown(path)}: [{index}]", record) for index, record in enumerate(document))
        return gather(records.rows(places, path), path, reach=reach)
    if isinstance(document, Mapping) and karpathy.matches(document):
        return gather(karpathy.rows(document, path), path, reach=reach)
    if isinstance(document, Mapping) and "images" in document and "annotations" in document:
        return gather(coco.rows(document, path), path, reach=reach)
    if isinstance(document, Mapping) and by_name.matches(document, path):
        return gather(by_name.rows(document, path), path, reach=reach)
    return gather(records.rows([(shown(path), document)], path), path, reach=reach)


def _read_text_table(path: Path, reach: Reach) -> Dataset:
    """Read ``.txt``, ``.tsv`` or ``.csv``: a table, or the format of ``Flickr8k.token.txt``, by its first line."""
    first = next((line for line in read_text(path).split("\n") if line.strip()), None)
    if first is None:
        raise DataError(f"{shown(path)} is empty: it contains no captions; check the file")
    return (tokens if tokens.matches(first) and not tables.matches(first) else tables).read(path, reach)


READERS: dict[str, Callable[[Path, Reach], Dataset]] = {
    ".jsonl": records.read,
    ".ndjson": records.read,
    ".json": _read_json,
    ".csv": _read_text_table,
    ".tsv": _read_text_table,
    ".txt": _read_text_table,
    ".token": _read_text_table,
    ".parquet": parquet.read,
}
