"""A dataset looked through: its counts, its captions, its images, and what should be put right before training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.samples import Sample
from captioner.data.splits import ALL, Dataset
from captioner.data.told import Problem, counted, some
from captioner.errors import ImageError
from captioner.inspection.duplicates import exact_groups, near_groups
from captioner.inspection.pictures import look_at_all
from captioner.metrics.words import splitter, unspaced

LONG, SHORT = 50, 3  # words of a caption that is hardly one
SMALL_SIDE = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of one split; ``span`` is where it lies in the tar at ``path``, as in ``Sample``."""

    split: str
    name: str
    path: Path
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.name if self.split == ALL else f"{self.name} ({self.split})"

    @property
    def sample(self) -> Sample:
        """The image alone, the same for all entries of it."""
        return Sample(name=self.name if self.span else "", path=self.path, captions=(), span=self.span)


Group = tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a dataset holds. ``problems`` should be put right before training; ``notes`` are worth knowing.
    Sentences about images are ``Problem``, which keeps all names.

    Histograms map a value to how often it occurs. ``same_bytes`` and ``look_alike`` are groups of images; ``leaks`` are
    those of them that stand in more than one split. ``shared_captions``: captions that several images have, with the
    number of these images, most frequent first.
    """

    images: Mapping[str, int]
    captions: Mapping[str, int]
    captions_per_image: Mapping[int, int]
    caption_words: Mapping[int, int]
    vocabulary: int
    said_once: int
    frequent: tuple[tuple[str, int], ...]
    shared_captions: tuple[tuple[str, int], ...]
    shared_across_splits: int
    sizes: Mapping[tuple[int, int], int]
    unreadable: tuple[tuple[Entry, str], ...]
    same_bytes: tuple[Group, ...]
    look_alike: tuple[Group, ...]
    leaks: tuple[Group, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def examine(datasets: Sequence[Dataset], *, progress: Callable[[int], object] = lambda images: None) -> Inspection:
    """Look through all images and captions of one or more datasets; those of one split belong together."""
    entries: list[Entry] = []
    samples: list[Sample] = []
    for dataset in datasets:
        for split, group in dataset.splits.items():
            told = list(group)
            entries += [Entry(split=split, name=s.name, path=s.path, span=s.span) for s in told]
            samples += told
    images = list(dict.fromkeys(entry.sample for entry in entries))
    found = {}
    for image, picture in zip(images, look_at_all(images), strict=True):
        found[image] = picture
        progress(1)
    pictures = [found[entry.sample] for entry in entries]
    good = [None if isinstance(picture, ImageError) else picture for picture in pictures]
    unreadable = tuple((e, str(p)) for e, p in zip(entries, pictures, strict=True) if isinstance(p, ImageError))
    same = _groups(exact_groups(good), entries)
    alike = _groups(near_groups(good), entries)
    leaks = tuple(group for group in (*same, *alike) if len({entry.split for entry in group}) > 1)
    splits = [entry.split for entry in entries]
    captions = _Captions(samples, splits)
    sizes = Counter(picture.size for picture in good if picture is not None)
    problems = [problem for dataset in datasets for problem in dataset.problems]
    readers_notes = [note for dataset in datasets for note in dataset.notes]
    if unreadable:
        names = [str(entry) for entry, _ in unreadable]
        what = f"{counted(len(names), 'image')} cannot be read; replace or remove {_them(len(names))}: {some(names)}"
        problems.append(Problem(what, names))
    if leaks:
        what = (
            f"{counted(len(leaks), 'image', 'stand')} in more than one split, by the bytes or by the looks, which makes"
        )
        problems.append(_problem(f"{what} scores too good; keep each in one", leaks))
    inside = [group for group in same if group not in leaks]
    if inside:
        what = f"{counted(len(inside), 'image', 'are')} there twice or more, byte for byte; keep one"
        problems.append(_problem(what, inside))
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
    """Counts over all captions."""

    def __init__(self, samples: Sequence[Sample], splits: Sequence[str]) -> None:
        self.by_split: Counter[str] = Counter()
        self.lengths: Counter[int] = Counter()
        self.vocabulary: Counter[str] = Counter()
        self.repeated = 0  # images that have the same caption twice
        split_words = splitter("characters" if unspaced(text for s in samples for text in s.captions) else "ptb")
        places: dict[str, list[int]] = defaultdict(list)
        for place, (sample, split) in enumerate(zip(samples, splits, strict=True)):
            self.by_split[split] += len(sample.captions)
            said = [split_words(caption) for caption in sample.captions]
            for caption in said:
                self.lengths[len(caption)] += 1
                self.vocabulary.update(caption)
            texts = [" ".join(caption) for caption in said]
            self.repeated += len(set(texts)) < len(texts)
            for text in dict.fromkeys(texts):
                places[text].append(place)
        several = sorted(((text, group) for text, group in places.items() if len(group) > 1), key=lambda x: -len(x[1]))
        self.shared = tuple((text, len(group)) for text, group in several)
        self.across = sum(len({splits[place] for place in group}) > 1 for _, group in several)


def _notes(captions: _Captions, sizes: Counter[tuple[int, int]], alike: Sequence[Group], unsplit: bool) -> list[str]:
    notes: list[str] = []
    if alike:
        beware = "; no split is named, so some may be held out while the others train" if unsplit else ""
        what = "group of images looks" if len(alike) == 1 else "groups of images look"
        notes.append(_problem(f"{len(alike)} {what} the same{beware}", alike))
    if captions.shared:
        count = sum(images for _, images in captions.shared)
        notes.append(
            f"{counted(len(captions.shared), 'caption', 'are')} said of several images ({count} in all), "
            f"{captions.across} across splits"
        )
    if captions.repeated:
        notes.append(f"{counted(captions.repeated, 'image', 'have')} the same caption twice")
    short = sum(count for length, count in captions.lengths.items() if length < SHORT)
    long = sum(count for length, count in captions.lengths.items() if length > LONG)
    if short:
        notes.append(f"{counted(short, 'caption', 'have')} fewer than {SHORT} words")
    if long:
        notes.append(
            f"{counted(long, 'caption', 'have')} more than {LONG} words, which a model with a short context cuts"
        )
    tiny = sum(count for size, count in sizes.items() if min(size) < SMALL_SIDE)
    if tiny:
        notes.append(f"{counted(tiny, 'image', 'have')} a side of fewer than {SMALL_SIDE} pixels")
    if len(sizes) == 1 and next(iter(sizes.values())) > 1:
        width, height = next(iter(sizes))
        notes.append(f"all images are {width} x {height}: if they were squashed to it, train with aspect squash")
    return notes


def _groups(places: Sequence[Sequence[int]], entries: Sequence[Entry]) -> tuple[Group, ...]:
    return tuple(tuple(entries[place] for place in group) for group in places)


def _problem(what: str, groups: Sequence[Group]) -> Problem:
    """A sentence about groups of images that names three of each in three of them, and keeps all names."""
    first = some([" = ".join(map(str, group[:3])) for group in groups])
    return Problem(f"{what}: {first}", (" = ".join(map(str, group)) for group in groups))


def _them(number: int) -> str:
    return "it" if number == 1 else "them"
