"""Karpathy's split files (Karpathy and Fei-Fei 2015, arXiv 1412.2306), such as ``dataset_flickr8k.json``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import shown
from captioner.data.sources.rows import Row, named_split, plain_id
from captioner.errors import DataError


def matches(document: Mapping[str, Any]) -> bool:
    """Return whether a JSON document is a split file with at least one image."""
    images = document.get("images")
    return isinstance(images, list) and any(isinstance(image, Mapping) and "sentences" in image for image in images)


def rows(document: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """Yield a row for every image, with its split; ``restval`` counts as train, as usual."""
    for number, image in enumerate(document["images"]):
        where = f"{shown(path)}: images[{number}]"
        name = image.get("filename") if isinstance(image, Mapping) else None
        folder = image.get("filepath") or "" if name else ""
        sentences = image.get("sentences", []) if name else None
        if not isinstance(name, str) or not isinstance(folder, str) or not isinstance(sentences, list):
            raise DataError(f"{where} has no usable 'filename' or 'sentences'; correct or remove the entry")
        yield Row(
            image=posixpath.join(folder, name),
            captions=tuple(_raw(sentence, where) for sentence in sentences),
            split=named_split(image.get("split"), where),
            id=plain_id(image.get("cocoid", image.get("imgid"))) or "",
            where=where,
        )


def _raw(sentence: Any, where: str) -> str:
    raw = sentence.get("raw") if isinstance(sentence, Mapping) else None
    if not isinstance(raw, str):
        raise DataError(f"{where} has a sentence without its text under 'raw'; correct or remove it")
    return raw
