"""Splits of a dataset: their names, and holding out images of a dataset without splits.

Splits are by image, so the captions of an image are all in the same split.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.messages import agreeing
from captioner.data.messages import some as some
from captioner.data.paths import read_text, shown
from captioner.data.samples import Sample, Samples, chosen
from captioner.errors import DataError

ALL = "all"
SPLITS = ("train", "dev", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy's splits: the COCO validation images outside val and test
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""The accepted names of splits, in lower case, and the internal ones."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset.

    ::

        dataset = read_splits("flickr8k/")
        train, dev = dataset.split("train"), dataset.split("dev")

    splits: Samples by the keys train, dev and test, or only ``all`` for a dataset without splits.
    problems: Messages about left-out data to fix; those about files are ``Problem`` objects with all names.
    notes: Messages that need no action.
    """

    splits: Mapping[str, Sequence[Sample]]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> Sequence[Sample]:
        """Return the samples of ``train``, ``dev`` or ``test``, or ``all`` of them.

        A dataset without splits is divided by ``hold_out``: a tenth is ``dev``. Raises ``DataError`` for an unknown
        split.
        """
        if name == ALL:
            return [sample for samples in self.splits.values() for sample in samples]
        key = SPLIT_NAMES.get(name)
        if key in self.splits:
            samples = self.splits[str(key)]
            return samples if isinstance(samples, Samples) else list(samples)
        if ALL in self.splits and key in ("train", "dev"):
            train, held_out = hold_out(self.splits[ALL])
            return train if key == "train" else held_out
        known = [*self.splits, *(["train", "dev"] if ALL in self.splits else [ALL])]
        raise DataError(f"the data has no split {name!r}; choose one of: {', '.join(known)}")


def hold_out(samples: Sequence[Sample], share: float = 0.1) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Divide into (kept, held out) by a hash of each image's name.

    The SHA-256 of its name assigns each image independently, so the split does not depend on machine or order, and
    adding images does not change it. The share is only approximate, but of two or more images each side gets at least
    one; a single image is kept.
    """
    if not 0 < share < 1:
        raise DataError(f"the share to hold out must be between 0 and 1, not {share}")
    if len(samples) < 2:
        return list(samples), []
    points = array("d", (_point(sample.name) for sample in samples))
    border = min(max(share, min(points) + 2.0**-49), max(points))
    kept = chosen(samples, (index for index, point in enumerate(points) if point >= border))
    return kept, chosen(samples, (index for index, point in enumerate(points) if point < border))


def hold_out_named(samples: Sequence[Sample], names: str | Path) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Divide into (kept, held out) by a file that lists the held-out images, one name per line.

    A line is a sample's name, or its last part if it is unique. Raises ``DataError`` for an unknown or ambiguous name,
    for a file without names, and if nothing would be kept.
    """
    lines = [line.strip() for line in read_text(Path(names)).split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{shown(names)} lists no images; write one image name per line")
    names_listed, lasts_listed = set(lines), set(map(_last, lines))
    by_name: dict[str, set[int]] = {}
    by_last: dict[str, set[int]] = {}
    for index, sample in enumerate(samples):
        if sample.name in names_listed:
            by_name.setdefault(sample.name, set()).add(index)
        if _last(sample.name) in lasts_listed:
            by_last.setdefault(_last(sample.name), set()).add(index)
    matches = {line: by_name.get(line) or by_last.get(_last(line), set()) for line in lines}
    for verb, problem, bad in (
        ("are", "not in the data", [line for line in lines if not matches[line]]),
        ("match", "several images; write them with their folders", [line for line in lines if len(matches[line]) > 1]),
    ):
        if bad:
            what = f"{agreeing(len(bad), verb)} {problem}: {some(bad)}"
            raise DataError(f"{len(bad)} of the {len(lines)} images in {shown(names)} {what}")
    held_out = {index for indices in matches.values() for index in indices}
    if len(held_out) == len(samples):
        raise DataError(f"{shown(names)} holds out every image, which leaves nothing to train on; remove some names")
    kept = chosen(samples, (index for index in range(len(samples)) if index not in held_out))
    return kept, chosen(samples, sorted(held_out))


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _point(name: str) -> float:
    """Return a number in [0, 1) that depends only on the name."""
    digest = hashlib.sha256(name.replace("\\", "/").encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
