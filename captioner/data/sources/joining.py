"""Joining parts of a dataset, and deriving splits from the names of files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.messages import Problem, agreeing, counted, some
from captioner.data.samples import Sample
from captioner.data.splits import ALL, SPLIT_NAMES, SPLITS, Dataset


def split_of(path: Path) -> str | None:
    """Return the split in a file's name, as in ``captions_val2014.json``; None without one or with several."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)
    splits = {SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


def labelled(data: Dataset, split: str | None) -> Dataset:
    """Assign a split to a dataset without splits."""
    if split is None or set(data.splits) != {ALL}:
        return data
    return replace(data, splits={split: data.splits[ALL]})


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Join samples by split; merge the captions of images that occur several times in a split."""
    splits: dict[str, dict[Path, Sample]] = {}
    for name, group in (item for part in parts for item in part.splits.items()):
        samples = splits.setdefault(name, {})
        for sample in group:
            before = samples[sample.path].captions if sample.path in samples else ()
            samples[sample.path] = replace(sample, captions=before + sample.captions)
    return Dataset(
        splits={split: tuple(samples.values()) for split, samples in splits.items()},
        problems=tuple(problem for part in parts for problem in part.problems),
        notes=tuple(note for part in parts for note in part.notes),
    )


def by_folders(data: Dataset) -> Dataset:
    """Derive splits from the images' folders (``train/1.jpg``), if all of these are named after splits."""
    samples = data.splits.get(ALL, ())
    words = [sample.name.partition("/")[0].lower() if "/" in sample.name else "" for sample in samples]
    if set(data.splits) != {ALL} or not set(words) <= set(SPLIT_NAMES):
        return data
    splits: dict[str, list[Sample]] = {}
    for word, sample in zip(words, samples, strict=True):
        splits.setdefault(SPLIT_NAMES[word], []).append(sample)
    return replace(data, splits={split: tuple(group) for split, group in splits.items()})


def checked(data: Dataset) -> Dataset:
    """Sort the splits, and report images without a split and images in several splits (leaks)."""
    problems = list(data.problems)
    splits = {name: data.splits[name] for name in (*SPLITS, ALL) if name in data.splits}
    if len(splits) > 1 and ALL in splits:
        out = [sample.name for sample in splits.pop(ALL)]
        were = agreeing(len(out), "were")
        problems.append(Problem(f"{counted(len(out), 'image', 'are')} in no split and {were} left out", out))
    counts = Counter(path for samples in splits.values() for path in {sample.path for sample in samples})
    leaks = [str(path) for path, count in counts.items() if count > 1]
    if leaks:
        what = f"leakage: {counted(len(leaks), 'image', 'are')} in more than one split, which inflates scores"
        problems.append(Problem(f"{what}: {some(leaks)}", leaks))
    return replace(data, splits=splits, problems=tuple(problems))
