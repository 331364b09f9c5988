"""Examination of a dataset: statistics of captions and images, and problems to fix before training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.messages import Problem, counted, some
from captioner.data.samples import Sample
from captioner.data.splits import ALL, Dataset
from captioner.errors import ImageError
from captioner.inspection.duplicates import exact_groups, near_groups
from captioner.inspection.pictures import read_all_pictures
from captioner.metrics.words import splitter, unspaced

LONG, SHORT = 50, 3  # suspicious lengths of a caption, in words
SMALL_SIDE = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of one split."""

    split: str
    name: str
    path: Path
    span: tuple[int, int] | None = None  # position in the tar at ``path``, as in ``Sample``

    def __str__(self) -> str:
        return self.name if self.split == ALL else f"{self.name} ({self.split})"

    @property
    def sample(self) -> Sample:
        """The image as a sample, equal for all entries of the same image."""
        return Sample(name=self.name if self.span else "", path=self.path, captions=(), span=self.span)


Group = tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of an examination. Messages about images are ``Problem`` objects, which keep all names."""

    images: Mapping[str, int]  # count per split
    captions: Mapping[str, int]  # count per split
    captions_per_image: Mapping[int, int]  # histogram
    caption_words: Mapping[int, int]  # histogram of words per caption
    vocabulary: int  # distinct words
    said_once: int  # words that occur once
    frequent: tuple[tuple[str, int], ...]  # most frequent words with their counts
    shared_captions: tuple[tuple[str, int], ...]  # captions of several images, with the number of images
    shared_across_splits: int  # those of ``shared_captions`` in several splits
    sizes: Mapping[tuple[int, int], int]  # histogram of (width, height)
    unreadable: tuple[tuple[Entry, str], ...]  # with reasons
    same_bytes: tuple[Group, ...]  # exact duplicates
    look_alike: tuple[Group, ...]  # near duplicates
    leaks: tuple[Group, ...]  # duplicates in several splits
    problems: tuple[str, ...]  # to fix before training
    notes: tuple[str, ...]  # need no action


def examine(datasets: Sequence[Dataset], *, progress: Callable[[int], object] = lambda images: None) -> Inspection:
    """Examine all images and captions of one or more datasets, joined by split."""
    entries: list[Entry] = []
    samples: list[Sample] = []
    for dataset in datasets:
        for split, group in dataset.splits.items():
            split_samples = list(group)
            entries += [Entry(split=split, name=s.name, path=s.path, span=s.span) for s in split_samples]
            samples += split_samples
    images = list(dict.fromkeys(entry.sample for entry in entries))
    results = {}
    for image, picture in zip(images, read_all_pictures(images), strict=True):
        results[image] = picture
        progress(1)
    pictures = [results[entry.sample] for entry in entries]
    readable = [None if isinstance(picture, ImageError) else picture for picture in pictures]
    unreadable = tuple((e, str(p)) for e, p in zip(entries, pictures, strict=True) if isinstance(p, ImageError))
    same = _groups(exact_groups(readable), entries)
    alike = _groups(near_groups(readable), entries)
    leaks = tuple(group for group in (*same, *alike) if len({entry.split for entry in group}) > 1)
    splits = [entry.split for entry in entries]
    captions = _Captions(samples, splits)
    sizes = Counter(picture.size for picture in readable if picture is not None)
    problems = [problem for dataset in datasets for problem in dataset.problems]
    readers_notes = [note for dataset in datasets for note in dataset.notes]
    if unreadable:
        names = [str(entry) for entry, _ in unreadable]
        what = f"{counted(len(names), 'image')} cannot be read; replace or remove {_them(len(names))}: {some(names)}"
        problems.append(Problem(what, names))
    if leaks:
        what = f"leakage: {counted(len(leaks), 'image', 'have')} exact or near duplicates in several splits"
        problems.append(_problem(f"{what}, which inflates scores; keep each in one", leaks))
    duplicates = [group for group in same if group not in leaks]
    if duplicates:
        what = f"{counted(len(duplicates), 'image', 'have')} exact duplicates; keep one"
        problems.append(_problem(what, duplicates))
    return Inspection(
        images=Counter(splits),
        captions=captions.by_split,
        captions_per_image=Counter(len(sample.captions) for sample in samples),
        caption_words=captions.lengths,
        vocabulary=len(captions.vocabulary),
        said_once=sum(count == 1 for count in captions.vocabulary.values()),
        frequent=tuple(captions.vocabulary.most_common(20)),
        shared_captions=captions.shared,
        shared_across_splits=captions.across,
        sizes=sizes,
        unreadable=unreadable,
        same_bytes=same,
        look_alike=alike,
        leaks=leaks,
        problems=tuple(problems),
        notes=(
            *readers_notes,
            *_notes(captions, sizes, [group for group in alike if group not in leaks], set(splits) == {ALL}),
        ),
    )


class _Captions:
    """The statistics of all captions."""

    def __init__(self, samples: Sequence[Sample], splits: Sequence[str]) -> None:
        self.by_split: Counter[str] = Counter()
        self.lengths: Counter[int] = Counter()
        self.vocabulary: Counter[str] = Counter()
        self.repeated = 0  # images with duplicate captions
        split_words = splitter("characters" if unspaced(text for s in samples for text in s.captions) else "ptb")
        indices: dict[str, list[int]] = defaultdict(list)
        for index, (sample, split) in enumerate(zip(samples, splits, strict=True)):
            self.by_split[split] += len(sample.captions)
            captions = [split_words(caption) for caption in sample.captions]
            for words in captions:
                self.lengths[len(words)] += 1
                self.vocabulary.update(words)
            texts = [" ".join(words) for words in captions]
            self.repeated += len(set(texts)) < len(texts)
            for text in dict.fromkeys(texts):
                indices[text].append(index)
        several = sorted(((text, group) for text, group in indices.items() if len(group) > 1), key=lambda x: -len(x[1]))
        self.shared = tuple((text, len(group)) for text, group in several)
        self.across = sum(len({splits[index] for index in group}) > 1 for _, group in several)


def _notes(captions: _Captions, sizes: Counter[tuple[int, int]], alike: Sequence[Group], unsplit: bool) -> list[str]:
    notes: list[str] = []
    if alike:
        warning = "; without splits, some of a group may be held out and others used for training" if unsplit else ""
        notes.append(_problem(f"{counted(len(alike), 'group')} of near duplicates{warning}", alike))
    if captions.shared:
        count = sum(images for _, images in captions.shared)
        notes.append(
            f"{counted(len(captions.shared), 'caption', 'are')} shared by several images ({count} in total), "
            f"{captions.across} across splits"
        )
    if captions.repeated:
        notes.append(f"{counted(captions.repeated, 'image', 'have')} duplicate captions")
    short = sum(count for length, count in captions.lengths.items() if length < SHORT)
    long = sum(count for length, count in captions.lengths.items() if length > LONG)
    if short:
        notes.append(f"{counted(short, 'caption', 'have')} fewer than {SHORT} words")
    if long:
        notes.append(
            f"{counted(long, 'caption', 'have')} more than {LONG} words, which a model with a short context truncates"
        )
    tiny = sum(count for size, count in sizes.items() if min(size) < SMALL_SIDE)
    if tiny:
        notes.append(f"{counted(tiny, 'image', 'have')} a side shorter than {SMALL_SIDE} pixels")
    if len(sizes) == 1 and next(iter(sizes.values())) > 1:
        width, height = next(iter(sizes))
        notes.append(f"all images are {width} x {height}: if they were squashed to this size, train with aspect squash")
    return notes


def _groups(indices: Sequence[Sequence[int]], entries: Sequence[Entry]) -> tuple[Group, ...]:
    return tuple(tuple(entries[index] for index in group) for group in indices)


def _problem(what: str, groups: Sequence[Group]) -> Problem:
    """Return a problem about groups of images; its text names three images of three groups."""
    first = some([" = ".join(map(str, group[:3])) for group in groups])
    return Problem(f"{what}: {first}", (" = ".join(map(str, group)) for group in groups))


def _them(number: int) -> str:
    return "it" if number == 1 else "them"
