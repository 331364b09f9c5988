"""The reader of existing captions from a file, and their assignment to images.

A missing, duplicate or empty caption, or one of an unknown image, would change a score silently: all of these raise an
error with the images' names. Missing ones are allowed on request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.data.messages import counted, some
from captioner.data.paths import read_text, shown
from captioner.data.samples import Sample
from captioner.data.sources import records, tables
from captioner.data.sources.records import CAPTION_KEYS, IMAGE_KEYS
from captioner.data.sources.rows import is_missing, plain_id
from captioner.errors import DataError

PREDICTION_KEYS = ("generated_text", "prediction", *CAPTION_KEYS)
"""The keys of a caption, in order: the output of a transformers pipeline comes before a reference or a prompt."""
ID_KEYS = (*IMAGE_KEYS, "image_id", "cocoid", "imgid", "id")
"""The keys of an image, in order: a file comes before a number, which may be that of the row."""
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
SHOWN = 10  # names in a message


def read_predictions(path: str | Path, *, partial: bool = False) -> list[tuple[str, str]]:
    """Return (image, caption) of every prediction in a file; ``partial`` skips records of an error.

    The file holds COCO results (a JSON list of ``image_id`` and ``caption``), JSON lines (the output of ``captioner
    caption --json`` too), or CSV or TSV with a header. Raises ``DataError`` with the position of the error.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{shown(path)} is not a file of predictions; give one of {', '.join(SUFFIXES)}")
    pairs = [pair for where, record in _records(path) if (pair := _pair(record, where, partial=partial)) is not None]
    if not pairs:
        raise DataError(f"{shown(path)} holds no predictions; check the file")
    return pairs


def matched_captions(
    predictions: Sequence[tuple[str, str]],
    samples: Sequence[Sample],
    others: Sequence[Sample] = (),
    *,
    partial: bool = False,
) -> list[str | None]:
    """Return the caption of each sample, in their order; with ``partial``, None for a sample without a prediction.

    A prediction names its image by the annotation's id, the name, the path, or the file name with or without the
    suffix, if only one image has it. ``others``: images of the data outside this evaluation. Raises ``DataError``
    unless each sample has one caption with words, and for predictions of other images.
    """
    known = _Names(samples)
    captions: dict[int, list[str]] = {}
    unknown: list[str] = []
    several: list[str] = []
    for image, caption in predictions:
        places = known.find(image)
        if len(places) > 1:
            several.append(image)
        elif not places:
            unknown.append(image)
        else:
            captions.setdefault(next(iter(places)), []).append(caption)
    elsewhere = _Names(others)
    outside = [image for image in unknown if elsewhere.find(image)]
    strange = [image for image in unknown if not elsewhere.find(image)]
    without = [sample.name for place, sample in enumerate(samples) if place not in captions]
    duplicate = [samples[place].name for place, all_ in captions.items() if all_[1:]]
    empty = [samples[place].name for place, all_ in captions.items() if not all_[0].strip()]
    problems = (
        (several, "prediction", "name", "several images each; write their folders too"),
        (outside, "prediction", "are", "of images in another split; choose it with --split, or leave them out"),
        (strange, "prediction", "are", "of images that are not in the data"),
        ([] if partial and captions else without, "image", "have", "no prediction"),
        (duplicate, "image", "have", "more than one prediction"),
        (empty, "prediction", "are", "empty"),
    )
    sentences = [
        f"{counted(len(names), noun, verb)} {what}: {some(names, SHOWN)}"
        for names, noun, verb, what in problems
        if names
    ]
    if sentences:
        hint = "; --partial evaluates the images that have one" if without and len(sentences) == 1 and captions else ""
        raise DataError("the predictions cannot be evaluated: " + "; ".join(sentences) + hint)
    return [captions[place][0] if place in captions else None for place in range(len(samples))]


class _Names:
    """A table of the names by which predictions may call each sample."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.tables: list[dict[str, set[int]]] = [{} for _ in range(4)]
        for place, sample in enumerate(samples):
            last = _last(sample.name)
            spelled = ([sample.id], [sample.name, os.fspath(sample.path)], [last], [os.path.splitext(last)[0]])
            for table, names in zip(self.tables, spelled, strict=True):
                for name in filter(None, names):
                    table.setdefault(name, set()).add(place)

    def find(self, image: str) -> set[int]:
        """Return the indices of the samples of that name, from the most specific table that has it."""
        for spelled in dict.fromkeys((image, plain_id(image) or image)):
            last = _last(spelled)
            for table, name in zip(self.tables, (spelled, spelled, last, os.path.splitext(last)[0]), strict=True):
                if name in table:
                    return table[name]
        return set()


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() in (".csv", ".tsv"):
        for row in tables.rows(path, tables.Names(images=ID_KEYS, captions=PREDICTION_KEYS, split="")):
            yield row.where, {ID_KEYS[0]: row.image, "caption": list(row.captions)}
        return
    if path.suffix.lower() == ".json":
        document = records.parse(read_text(path), shown(path))
        entries = document.get("annotations", [document]) if isinstance(document, Mapping) else document
        if not isinstance(entries, list):
            raise DataError(f"{shown(path)} must hold a list of predictions; check the file")
        yield from ((f"{shown(path)}: [{index}]", entry) for index, entry in enumerate(entries))
        return
    yield from records.lines(path)


def _pair(record: Any, where: str, *, partial: bool) -> tuple[str, str] | None:
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not an object with an image and a caption; check the file")
    image = records.pick((key for key, value in record.items() if not is_missing(value)), ID_KEYS)
    caption = records.pick(record, PREDICTION_KEYS)
    if image is not None and caption is None and record.get("error"):
        if partial:
            return None
        raise DataError(
            f"{where}: {shown(str(record[image]))} has an error instead of a caption; caption it, or remove the record"
        )
    if image is None or caption is None:
        raise DataError(
            f"{where} lacks "
            + (f"an image ({', '.join(ID_KEYS)})" if image is None else f"a caption ({', '.join(PREDICTION_KEYS)})")
        )
    text = record[caption]
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if is_missing(text):
        text = ""
    name = record[image] if isinstance(record[image], str) else plain_id(record[image])
    if not isinstance(text, str) or name is None:
        raise DataError(f"{where} must have one text as {caption} and a name or number as {image}; correct it")
    return name, text


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
