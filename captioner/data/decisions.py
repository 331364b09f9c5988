"""Decisions of people about captions: ``review.decisions.jsonl``, which `captioner review` writes and training reads.

Each line is one decision; the last one about a photo counts. A line holds the captions before and after it, so the file
alone is enough to train on, and enough to finish a save that was interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from captioner.data.messages import counted
from captioner.data.paths import MAX_TEXT, shown
from captioner.data.samples import Sample
from captioner.data.sources import read_splits
from captioner.data.sources.files import READERS
from captioner.data.sources.joining import by_folders, checked, split_of
from captioner.data.sources.rows import NotThisForm, Reach, Row, gather
from captioner.data.splits import ALL, Dataset
from captioner.errors import DataError

FILE = "review.decisions.jsonl"
State = Literal["", "accepted", "edited", "rejected"]
STATES: tuple[State, ...] = get_args(State)
GOOD: tuple[State, ...] = ("accepted", "edited")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One line of the file."""

    path: str  # the photo, relative to the folder of the file, with slashes
    state: State  # empty: not reviewed, or no longer
    captions: tuple[str, ...]
    was: tuple[str, ...] = ()  # the captions before it
    save: str = ""  # lines of one save have the same

    def line(self, **more: Any) -> bytes:
        """Return the line with its end; ``more`` fields are for people."""
        record = {"path": self.path, "state": self.state, "captions": self.captions, "was": self.was, "save": self.save}
        return json.dumps({**record, **more}).encode() + b"\n"


def parse(data: bytes) -> Iterator[Decision]:
    """Yield the decisions in the lines of ``data``; skip lines that are none, such as one cut by a crash."""
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and (decision := _decision(record)) is not None:
            yield decision


def read_accepted(data: str | Path, *, outside: bool = False) -> Dataset:
    """Read the captions that people accepted or edited in `captioner review`, of a folder or its file of decisions.

    Each photo keeps its split and its name in the folder's dataset. Raises ``DataError`` if no caption is accepted, and
    if files named after splits cannot be read.
    """
    folder = Path(data)
    path = folder / FILE if folder.is_dir() else folder
    last = {decision.path: decision for decision in parse(_bytes(path))}
    good = [decision for decision in last.values() if decision.state in GOOD and any(map(str.strip, decision.captions))]
    if not good:
        raise DataError(f"{shown(path)} has no accepted caption; accept some with `captioner review {shown(folder)}`")
    rows = [Row(image=decision.path, captions=decision.captions, where=shown(path)) for decision in good]
    found = by_folders(gather(rows, path, reach=Reach(top=path.parent, outside=outside)))
    found = checked(_in_splits(found, path.parent, outside))
    rejected = sum(decision.state == "rejected" for decision in last.values())
    kept = f"{counted(len(good), 'image')} with reviewed captions; {rejected} rejected and left out"
    return Dataset(
        splits={split: found.splits[split] for split in found.splits} or {ALL: ()},
        problems=found.problems,
        notes=(*found.notes, f"{shown(path)}: {kept}"),
    )


def _in_splits(found: Dataset, folder: Path, outside: bool) -> Dataset:
    """Return the samples in the splits that the folder's dataset has them in, with their names there."""
    try:
        data = read_splits(folder, outside=outside)
    except NotThisForm:  # photos without other captions
        return found
    except DataError as error:
        if any(split_of(file) for file in folder.iterdir() if file.suffix.lower() in READERS):
            raise
        note = f"the splits of {shown(folder)} are those of its subfolders, if any, because its captions are not read"
        return replace(found, notes=(*found.notes, f"{note}: {error}"))
    known: dict[str, list[tuple[str, Sample]]] = {}
    for split, samples in data.splits.items():
        for sample in samples:
            if sample.span is None:
                known.setdefault(os.path.realpath(sample.path), []).append((split, sample))
    splits: dict[str, list[Sample]] = {}
    for own, samples in found.splits.items():
        for sample in samples:
            for split, there in known.get(os.path.realpath(sample.path), [(own, sample)]):
                splits.setdefault(split, []).append(replace(there, captions=sample.captions))
    return replace(found, splits={split: tuple(samples) for split, samples in splits.items()})


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(
                f"{shown(path)} does not exist, so no caption is accepted; review the captions with "
                "`captioner review`, or leave out --accepted"
            )
        if path.stat().st_size > MAX_TEXT:
            raise DataError(f"{shown(path)} is larger than the limit of {MAX_TEXT / 1e6:,.0f} MB; split it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _decision(record: Mapping[str, Any]) -> Decision | None:
    path, state, save = record.get("path"), record.get("state"), record.get("save", "")
    captions, was = (record.get(name, []) for name in ("captions", "was"))
    if not isinstance(path, str) or "\0" in path or state not in STATES or not isinstance(save, str):
        return None
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in (captions, was)):
        return None
    return Decision(path=path, state=cast(State, state), captions=tuple(captions), was=tuple(was), save=save)
