"""JSON objects of captions by image name: ``{"a.jpg": ["...", "..."]}``, kohya's ``meta_cap.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import is_image_name, shown
from captioner.data.sources import records
from captioner.data.sources.loose import LooseNames
from captioner.data.sources.rows import Row


def matches(document: Mapping[str, Any], path: Path) -> bool:
    """Return whether the values are only captions, and the keys image names, with or without suffix."""
    values = list(document.values())
    if not values or records.pick(document, records.IMAGE_KEYS) is not None or not all(map(_fits, values)):
        return False
    if not any(_texts(value) for value in values):
        return False
    if any(map(is_image_name, document)):
        return True
    loose = LooseNames(_files)
    return any(loose.find(str(path.parent), name) for name in list(document)[:10])


def rows(document: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """Yield a row for every image, in the file's order."""
    for name, value in document.items():
        record = value if isinstance(value, Mapping) else {"caption": value}
        where = f"{shown(path)}: {shown(name)}"
        yield Row(image=name, captions=records.captions_in(record, where) or (), where=where)


def _files(folder: str) -> list[str]:
    try:
        return os.listdir(folder or os.curdir)
    except (OSError, ValueError):
        return []


def _fits(value: Any) -> bool:
    return isinstance(value, (str, Mapping)) or (
        isinstance(value, list) and all(isinstance(text, str) for text in value)
    )


def _texts(value: Any) -> bool:
    return bool(value) and (not isinstance(value, Mapping) or records.pick(value, records.CAPTION_KEYS) is not None)
