"""Splits of a dataset: what they are called, and how images are held out where a dataset names none.

Splits are by image, so captions of one image never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.paths import read_text, shown
from captioner.data.samples import Sample
from captioner.errors import DataError

ALL = "all"
SPLITS = ("train", "dev", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "train",  # what COCO's validation images have left over in Karpathy's splits
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""What people call the splits, in lower case, and what they are called here."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a reader found. ``splits`` has the keys train, dev and test, or only ``all`` where no split is named.

    ``problems`` are sentences for the user about what was left out: a caller prints them, or refuses.
    """

    splits: dict[str, tuple[Sample, ...]]
    problems: tuple[str, ...] = ()

    def split(self, name: str) -> list[Sample]:
        """The samples of ``train``, ``dev`` or ``test``, or ``all`` of them.

        A dataset without named splits is divided by ``hold_out``: a tenth is ``dev``. Raises ``DataError`` that lists
        the splits there are.
        """
        if name == ALL:
            return [sample for samples in self.splits.values() for sample in samples]
        wanted = SPLIT_NAMES.get(name)
        if wanted in self.splits:
            return list(self.splits[str(wanted)])
        if ALL in self.splits and wanted in ("train", "dev"):
            train, held_out = hold_out(self.splits[ALL])
            return train if wanted == "train" else held_out
        there = [*self.splits, *(["train", "dev"] if ALL in self.splits else [ALL])]
        raise DataError(f"the data has no split {name!r}; choose one of: {', '.join(there)}")


def hold_out(samples: Sequence[Sample], share: float = 0.1) -> tuple[list[Sample], list[Sample]]:
    """Divide into (kept, held out) by a hash of each image's name.

    The SHA-256 of the name decides for each image alone: the choice is the same on every machine, whatever the order,
    and stays when images are added. The share is therefore met only roughly, but of two images or more at least one is
    on each side; a single image is kept.
    """
    if not 0 < share < 1:
        raise DataError(f"the share to hold out must lie between 0 and 1, not {share}")
    if len(samples) < 2:
        return list(samples), []
    points = [_point(sample.name) for sample in samples]
    border = min(max(share, min(points) + 2.0**-49), max(points))
    kept = [sample for sample, point in zip(samples, points, strict=True) if point >= border]
    return kept, [sample for sample, point in zip(samples, points, strict=True) if point < border]


def hold_out_named(samples: Sequence[Sample], names: str | Path) -> tuple[list[Sample], list[Sample]]:
    """Divide into (kept, held out) by a file that lists the held-out images, one name per line.

    A line is a sample's whole name, or its last part where only one sample has it. Raises ``DataError`` for a name
    that no sample or several have, for a file without names, and if nothing would be kept.
    """
    wanted = [line.strip() for line in read_text(Path(names)).split("\n") if line.strip()]
    if not wanted:
        raise DataError(f"{shown(names)} lists no images; write one image name per line")
    by_name: dict[str, set[int]] = {}
    by_last: dict[str, set[int]] = {}
    for index, sample in enumerate(samples):
        by_name.setdefault(sample.name, set()).add(index)
        by_last.setdefault(_last(sample.name), set()).add(index)
    found = {name: by_name.get(name) or by_last.get(_last(name), set()) for name in wanted}
    for problem, bad in (
        ("are not in the data", [name for name in wanted if not found[name]]),
        ("name several images; write them with their folders", [name for name in wanted if len(found[name]) > 1]),
    ):
        if bad:
            raise DataError(f"{len(bad)} of the {len(wanted)} images in {shown(names)} {problem}: {some(bad)}")
    chosen = {index for indices in found.values() for index in indices}
    if len(chosen) == len(samples):
        raise DataError(f"{shown(names)} holds out every image, which leaves nothing to train on")
    held_out = [samples[index] for index in sorted(chosen)]
    return [sample for index, sample in enumerate(samples) if index not in chosen], held_out


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(shown(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _point(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.sha256(name.replace("\\", "/").encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
