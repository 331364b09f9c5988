"""Several parts of a dataset put together: their splits by name, by folder, and joined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.samples import Sample
from captioner.data.splits import ALL, SPLIT_NAMES, SPLITS, Dataset
from captioner.data.told import Problem, agreeing, counted, some


def split_of(path: Path) -> str | None:
    """The split that a file is named after: one of its words, as in ``captions_val2014.json``; None for none or two."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)
    splits = {SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


def labelled(data: Dataset, split: str | None) -> Dataset:
    """Give the split's name to samples that have none of their own."""
    if split is None or set(data.splits) != {ALL}:
        return data
    return replace(data, splits={split: data.splits[ALL]})


def joined(parts: Sequence[Dataset]) -> Dataset:
    """All samples by split; an image that comes again in its split keeps all its captions."""
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
    """Splits from the images' folders (``train/1.jpg``), if all of them lie in folders named after splits."""
    samples = data.splits.get(ALL, ())
    words = [sample.name.partition("/")[0].lower() if "/" in sample.name else "" for sample in samples]
    if set(data.splits) != {ALL} or not set(words) <= set(SPLIT_NAMES):
        return data
    splits: dict[str, list[Sample]] = {}
    for word, sample in zip(words, samples, strict=True):
        splits.setdefault(SPLIT_NAMES[word], []).append(sample)
    return replace(data, splits={split: tuple(group) for split, group in splits.items()})


def checked(data: Dataset) -> Dataset:
    """Put the splits in order, and tell of images in none of them or in several, whose captions leak into scores."""
    problems = list(data.problems)
    splits = {name: data.splits[name] for name in (*SPLITS, ALL) if name in data.splits}
    if len(splits) > 1 and ALL in splits:
        out = [sample.name for sample in splits.pop(ALL)]
        were = agreeing(len(out), "were")
        problems.append(Problem(f"{counted(len(out), 'image', 'are')} in no split and {were} left out", out))
    counts = Counter(path for samples in splits.values() for path in {sample.path for sample in samples})
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        what = (
            f"{counted(len(twice), 'image', 'are')} in more than one split, which makes scores too good: {some(twice)}"
        )
        problems.append(Problem(what, twice))
    return replace(data, splits=splits, problems=tuple(problems))
