"""COCO captions (Chen et al. 2015, arXiv 1504.00325): ``{"images": [...], "annotations": [...]}`` joined by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import shown
from captioner.data.sources.rows import NotThisForm, Row
from captioner.errors import DataError


def rows(document: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """A row for every image in the file's order, with all its captions.

    An annotation of an unknown image id becomes a row whose image will be missing. Raises ``NotThisForm`` for COCO
    files of another task (instances, keypoints), ``DataError`` for entries that lack their fields.
    """
    annotations = _entries(document, "annotations", path)
    if annotations and not any("caption" in annotation for annotation in annotations):
        raise NotThisForm(f"{shown(path)} holds COCO annotations without captions; use captions_*.json")
    names: dict[Any, str] = {}
    for number, image in enumerate(_entries(document, "images", path)):
        names[_field(image, "id", (int, str), f"{shown(path)}: images[{number}]")] = _field(
            image, "file_name", (str,), f"{shown(path)}: images[{number}]"
        )
    captions: dict[Any, list[str]] = {image_id: [] for image_id in names}
    for number, annotation in enumerate(annotations):
        where = f"{shown(path)}: annotations[{number}]"
        image_id = _field(annotation, "image_id", (int, str), where)
        captions.setdefault(image_id, []).append(_field(annotation, "caption", (str,), where))
    for image_id, texts in captions.items():
        name, where = names.get(image_id, f"image id {image_id}"), f"{shown(path)}: image id {image_id}"
        yield Row(image=name, captions=tuple(texts), id=str(image_id), where=where)


def _entries(document: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise NotThisForm(f"{shown(path)} has no list of objects under {key!r}; check the file")
    return entries


def _field(entry: Mapping[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    value = entry.get(key)
    if not isinstance(value, kinds):
        raise DataError(f"{where} has no usable {key!r}; correct or remove the entry")
    return value
