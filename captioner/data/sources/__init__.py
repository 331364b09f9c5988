"""Readers of captioning datasets, one module per form, and the detection of the form by looking.

May import errors, config and its siblings in data. Start reading at ``read_splits``, then ``rows.py``.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.paths import is_image_name, list_folder, shown
from captioner.data.samples import Sample
from captioner.data.sources import shards, sidecars
from captioner.data.sources.files import READERS, read_file
from captioner.data.sources.rows import ANNOTATION_FOLDERS, NotThisForm, Reach
from captioner.data.splits import ALL, SPLIT_NAMES, SPLITS, Dataset, some
from captioner.errors import DataError

__all__ = ["load_split", "read_splits"]


def read_splits(data: str | Path, *, outside: bool = False) -> Dataset:
    """Read a dataset from a folder or one file, whatever its form, with the splits that it names.

    In a folder the first of these that is there is read:

    1. caption files named after splits (``train.jsonl``, ``captions_val2014.json``, ``test.csv``);
    2. ``metadata.jsonl``, ``.csv`` or ``.parquet``, else the one caption file of any name;
    3. the same in a folder of annotations (``annotations/``);
    4. sub-folders named after splits, each read by these rules;
    5. images with ``.caption`` or ``.txt`` files beside them, in sub-folders too;
    6. tar files of images and captions (``shards.py``), by splits where they or their folders are named so.

    ``train-{000..012}.tar`` names several shards. Their samples stay in them and are read one by one.

    A single file named after a split is that split. Where nothing names splits the only key is ``all``, unless every
    image lies in a folder named after one. Raises ``DataError`` with the remedy; what was merely left out is told in
    the dataset's ``problems``.

    A file names images of its own folder, or of the folder ``data`` that it is in. A name that leads out of there, an
    absolute path or ``../``, is refused with its row, unless ``outside`` allows it: the file may be somebody else's.
    """
    path = Path(data)
    reach = Reach(top=path if path.is_dir() else None, outside=outside)
    try:
        if found := _shards(path):
            return _read_shards(found)
        if path.is_dir():
            return _checked(_by_folders(_read_folder(path, reach)))
        if path.is_file():
            return _checked(_by_folders(_labelled(read_file(path, reach), _split_of(path))))
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None
    what = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise DataError(f"{shown(path)} {what}; name a folder of images with captions, or a caption file")


def load_split(data: str | Path | Dataset, split: str, *, outside: bool = False) -> Sequence[Sample]:
    """The samples of one split: ``train``, ``dev``, ``test``, or ``all`` of them.

    Where no split is named, train and dev are made by ``hold_out``. Raises ``DataError`` that lists the splits there
    are. The problems of reading are lost; to show them, pass what ``read_splits`` returned.
    ``outside`` is its.
    """
    return (data if isinstance(data, Dataset) else read_splits(data, outside=outside)).split(split)


def _shards(path: Path) -> list[Path]:
    """The tar files that ``path`` names, if it names some and no captions lie beside them."""
    paths = shards.expand(str(path))
    if len(paths) > 1 or (shards.is_shard(path.name) and not path.is_dir()):
        return paths
    if not path.is_dir():
        return []
    files, folders = list_folder(str(path))
    if any(Path(entry.name).suffix.lower() in READERS for entry in files):
        return []
    below = [shards.in_folder(Path(entry.path)) for entry in folders if entry.name.lower() in SPLIT_NAMES]
    return shards.in_folder(path) or [shard for found in below for shard in found]


def _read_shards(paths: Sequence[Path]) -> Dataset:
    """Shards that are named after splits, or lie in folders that are, by them; the others hold ``all``."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(_split_of(path) or SPLIT_NAMES.get(path.parent.name.lower(), ALL), []).append(path)
    if len(groups) > 1 and ALL in groups:
        raise DataError(
            f"{shown(groups[ALL][0])} is named after no split, though others are; rename it, or name only some"
        )
    parts = [shards.read(group, split) for split, group in groups.items()]
    return Dataset(
        splits={split: samples for part in parts for split, samples in part.splits.items()},
        problems=tuple(problem for part in parts for problem in part.problems),
    )


def _read_folder(folder: Path, reach: Reach) -> Dataset:
    entries, sub_entries = list_folder(str(folder))
    sub_folders = [Path(entry.path) for entry in sub_entries]
    files = _caption_files([entry.name for entry in entries], folder)

    named = [path for path in files if _split_of(path)]
    data = _read_split_files(named, reach)
    if data.splits:
        return data
    metadata = [path for path in files if path.stem == "metadata"]
    data, damaged = _read_one_of(metadata or [path for path in files if path not in named], reach)
    if metadata and damaged:
        raise damaged[0]
    if data.splits:
        return data
    for path in sub_folders:
        if path.name in ANNOTATION_FOLDERS:
            with contextlib.suppress(NotThisForm):
                return _read_folder(path, reach)
    data = _read_split_folders([path for path in sub_folders if path.name.lower() in SPLIT_NAMES], reach)
    if data.splits:
        return data
    try:
        return sidecars.read(folder)
    except NotThisForm as error:
        if damaged:
            raise damaged[0] from None
        raise NotThisForm(
            f"{error}; looked for train.jsonl and other files named after splits, metadata.jsonl, .csv and .parquet, "
            f"one caption file of another name ({', '.join(READERS)}), and a .caption or .txt file beside each image"
        ) from None


def _caption_files(names: Sequence[str], folder: Path) -> list[Path]:
    """Files that may hold the captions of the folder.

    One that shares its name with an image belongs to that image; ``review.jsonl`` holds captions that were set aside.
    """
    images = {spelled for name in names if is_image_name(name) for spelled in (name, Path(name).stem)}
    names = [name for name in names if not name.startswith("review.")]
    paths = [folder / name for name in names if Path(name).suffix.lower() in READERS]
    return [path for path in paths if path.suffix not in (".txt", ".json") or path.stem not in images]


def _split_of(path: Path) -> str | None:
    """The split that a file is named after: one of its words, as in ``captions_val2014.json``; None for none or two."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)
    splits = {SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


def _read_split_files(paths: Sequence[Path], reach: Reach) -> Dataset:
    """Files named after splits; those without captions are passed over. Several of one split and suffix are shards."""
    parts: list[Dataset] = []
    first: dict[str | None, Path] = {}
    captions = {_split_of(path) for path in paths if _is_coco(path)}
    for path in paths:
        if path.suffix == ".json" and _split_of(path) in captions and not _is_coco(path):
            continue  # instances_*, person_keypoints_*: hundreds of megabytes without a caption
        try:
            part = read_file(path, reach)
        except NotThisForm:
            continue
        split = _split_of(path)
        if first.setdefault(split, path).suffix != path.suffix:
            raise DataError(f"both {shown(first[split])} and {shown(path)} hold {split}; name or keep one of them")
        parts.append(_labelled(part, split))
    return _joined(parts)


def _is_coco(path: Path) -> bool:
    return path.suffix == ".json" and path.name.startswith("captions_")


def _read_one_of(paths: Sequence[Path], reach: Reach) -> tuple[Dataset, list[DataError]]:
    """The only one of these files that holds captions, and what is wrong with damaged ones."""
    found: dict[Path, Dataset] = {}
    damaged: list[DataError] = []
    for path in paths:
        try:
            found[path] = read_file(path, reach)
        except NotThisForm:
            continue
        except DataError as error:
            damaged.append(error)
    original = [path for path in found if "lemma" not in path.name]  # Flickr8k has its captions lemmatised beside
    if len(original or found) > 1:
        raise DataError(f"several files hold captions: {some(list(map(str, found)))}; name the one to read")
    for path in original or found:
        return found[path], damaged
    return Dataset(splits={}), damaged


def _read_split_folders(folders: Sequence[Path], reach: Reach) -> Dataset:
    parts: list[Dataset] = []
    for folder in folders:
        try:
            parts.append(_labelled(_read_folder(folder, reach), SPLIT_NAMES[folder.name.lower()]))
        except NotThisForm as error:
            parts.append(Dataset(splits={}, problems=(f"{str(error).partition(';')[0]}; it was left out",)))
    return _joined(parts)


def _labelled(data: Dataset, split: str | None) -> Dataset:
    """Give the split's name to samples that have none of their own."""
    if split is None or set(data.splits) != {ALL}:
        return data
    return Dataset(splits={split: data.splits[ALL]}, problems=data.problems)


def _joined(parts: Sequence[Dataset]) -> Dataset:
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
    )


def _by_folders(data: Dataset) -> Dataset:
    """Splits from the images' folders (``train/1.jpg``), if all of them lie in folders named after splits."""
    samples = data.splits.get(ALL, ())
    words = [sample.name.partition("/")[0].lower() if "/" in sample.name else "" for sample in samples]
    if set(data.splits) != {ALL} or not set(words) <= set(SPLIT_NAMES):
        return data
    splits: dict[str, list[Sample]] = {}
    for word, sample in zip(words, samples, strict=True):
        splits.setdefault(SPLIT_NAMES[word], []).append(sample)
    return Dataset(splits={split: tuple(group) for split, group in splits.items()}, problems=data.problems)


def _checked(data: Dataset) -> Dataset:
    """Put the splits in order, and tell of images in none of them or in several, whose captions leak into scores."""
    problems = list(data.problems)
    splits = {name: data.splits[name] for name in (*SPLITS, ALL) if name in data.splits}
    if len(splits) > 1 and ALL in splits:
        problems.append(f"{len(splits.pop(ALL))} images are in no split and were left out")
    counts = Counter(path for samples in splits.values() for path in {sample.path for sample in samples})
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        problems.append(f"{len(twice)} images are in more than one split, which makes scores too good: {some(twice)}")
    return Dataset(splits=splits, problems=tuple(problems))
