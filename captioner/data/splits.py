"""Splits of a dataset: what they are called, and how images are held out where a dataset names none.

Splits are by image, so captions of one image never stand on both sides.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.paths import read_text, shown
from captioner.data.samples import Sample, Samples, chosen
from captioner.data.told import agreeing
from captioner.data.told import some as some
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

    ``problems`` are sentences for the user about what was left out and should be put right: a caller prints them, or
    refuses. Those about files are ``Problem``, which keeps all names. ``notes`` are sentences about what is in order.
    """

    splits: Mapping[str, Sequence[Sample]]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> Sequence[Sample]:
        """The samples of ``train``, ``dev`` or ``test``, or ``all`` of them.

        A dataset without named splits is divided by ``hold_out``: a tenth is ``dev``. Raises ``DataError`` that lists
        the splits there are.
        """
        if name == ALL:
            return [sample for samples in self.splits.values() for sample in samples]
        wanted = SPLIT_NAMES.get(name)
        if wanted in self.splits:
            found = self.splits[str(wanted)]
            return found if isinstance(found, Samples) else list(found)
        if ALL in self.splits and wanted in ("train", "dev"):
            train, held_out = hold_out(self.splits[ALL])
            return train if wanted == "train" else held_out
        there = [*self.splits, *(["train", "dev"] if ALL in self.splits else [ALL])]
        raise DataError(f"the data has no split {name!r}; choose one of: {', '.join(there)}")


def hold_out(samples: Sequence[Sample], share: float = 0.1) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Divide into (kept, held out) by a hash of each image's name.

    The SHA-256 of the name decides for each image alone: the choice is the same on every machine, whatever the order,
    and stays when images are added. The share is therefore met only roughly, but of two images or more at least one is
    on each side; a single image is kept.
    """
    if not 0 < share < 1:
        raise DataError(f"the share to hold out must lie between 0 and 1, not {share}")
    if len(samples) < 2:
        return list(samples), []
    points = array("d", (_point(sample.name) for sample in samples))
    border = min(max(share, min(points) + 2.0**-49), max(points))
    kept = chosen(samples, (place for place, point in enumerate(points) if point >= border))
    return kept, chosen(samples, (place for place, point in enumerate(points) if point < border))


def hold_out_named(samples: Sequence[Sample], names: str | Path) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Divide into (kept, held out) by a file that lists the held-out images, one name per line.

    A line is a sample's whole name, or its last part where only one sample has it. Raises ``DataError`` for a name
    that no sample or several have, for a file without names, and if nothing would be kept.
    """
    wanted = [line.strip() for line in read_text(Path(names)).split("\n") if line.strip()]
    if not wanted:
        raise DataError(f"{shown(names)} lists no images; write one image name per line")
    names_wanted, lasts_wanted = set(wanted), set(map(_last, wanted))
    by_name: dict[str, set[int]] = {}
    by_last: dict[str, set[int]] = {}
    for index, sample in enumerate(samples):
        if sample.name in names_wanted:
            by_name.setdefault(sample.name, set()).add(index)
        if _last(sample.name) in lasts_wanted:
            by_last.setdefault(_last(sample.name), set()).add(index)
    found = {name: by_name.get(name) or by_last.get(_last(name), set()) for name in wanted}
    for verb, problem, bad in (
        ("are", "not in the data", [name for name in wanted if not found[name]]),
        ("name", "several images; write them with their folders", [name for name in wanted if len(found[name]) > 1]),
    ):
        if bad:
            what = f"{agreeing(len(bad), verb)} {problem}: {some(bad)}"
            raise DataError(f"{len(bad)} of the {len(wanted)} images in {shown(names)} {what}")
    away = {index for indices in found.values() for index in indices}
    if len(away) == len(samples):
        raise DataError(f"{shown(names)} holds out every image, which leaves nothing to train on")
    kept = chosen(samples, (index for index in range(len(samples)) if index not in away))
    return kept, chosen(samples, sorted(away))


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _point(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.sha256(name.replace("\\", "/").encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
