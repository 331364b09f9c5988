"""COCO captions (Chen et al. 2015, arXiv 1504.00325): ``{"images": [...], "annotations": [...]}`` joined by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import shown
from captioner.data.sources.rows import NotThisForm, Row, is_missing, plain_id
from captioner.errors import DataError


def rows(document: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """Yield a row for every image, in the file's order, with all its captions.

    An annotation with an unknown image id becomes a row with a missing image. Raises ``NotThisForm`` for COCO files of
    another task (instances, keypoints), ``DataError`` for entries that lack their fields.
    """
    annotations = _entries(document, "annotations", path)
    if annotations and not any("caption" in annotation for annotation in annotations):
        raise NotThisForm(f"{shown(path)} holds COCO annotations without captions; use captions_*.json")
    names: dict[str, str] = {}
    for number, image in enumerate(_entries(document, "images", path)):
        where = f"{shown(path)}: images[{number}]"
        names[_id(image, "id", where)] = _text(image, "file_name", where)
    captions: dict[str, list[str]] = {image_id: [] for image_id in names}
    for number, annotation in enumerate(annotations):
        where = f"{shown(path)}: annotations[{number}]"
        captions.setdefault(_id(annotation, "image_id", where), []).append(_text(annotation, "caption", where))
    for image_id, texts in captions.items():
        name, where = names.get(image_id, f"image id {image_id}"), f"{shown(path)}: image id {image_id}"
        yield Row(image=name, captions=tuple(texts), id=image_id, where=where)


def _entries(document: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise NotThisForm(f"{shown(path)} has no list of objects under {key!r}; check the file")
    return entries


def _id(entry: Mapping[str, Any], key: str, where: str) -> str:
    return _usable(plain_id(entry.get(key)), key, where)


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    return _usable("" if key == "caption" and is_missing(value) and key in entry else value, key, where)


def _usable(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} has no usable {key!r}; correct or remove the entry")
    return value
