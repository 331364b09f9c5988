"""Readers of captioning datasets, one module per format, and the detection of the format.

May import errors, config and its siblings in data. Start reading at ``read_splits``, then ``rows.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from captioner.data.beside import Beside
from captioner.data.messages import counted, some
from captioner.data.paths import Unreadable, has_magic, is_image_name, list_folder, matching, shown
from captioner.data.samples import Sample
from captioner.data.sources import shards
from captioner.data.sources import sidecars as sidecar_files
from captioner.data.sources.files import READERS, read_file
from captioner.data.sources.joining import by_folders, checked, joined, labelled, split_of
from captioner.data.sources.rows import ANNOTATION_FOLDERS, NotThisForm, Reach
from captioner.data.sources.shards import is_account
from captioner.data.sources.sidecars import Reading
from captioner.data.splits import ALL, SPLIT_NAMES, Dataset
from captioner.errors import DataError

__all__ = ["load_split", "read_splits"]


def read_splits(data: str | Path, *, outside: bool = False, sidecars: Reading = "lines") -> Dataset:
    """Read a dataset of any format from a folder or file, with its splits.

    In a folder, read the first of these that exists:

    1. caption files named after splits (``train.jsonl``, ``captions_val2014.json``, ``test.csv``);
    2. ``metadata.jsonl``, ``.csv`` or ``.parquet``, else the only caption file of any name;
    3. the same in a folder of annotations (``annotations/``);
    4. subfolders named after splits, each by these rules;
    5. images with ``.caption`` or ``.txt`` files beside them, in subfolders too;
    6. tar files of images and captions (``shards.py``), with splits if they or their folders are named after splits.

    ``train-{000..012}.tar`` and ``shards/*.tar`` name several shards, whose samples are read on demand. A pattern of
    other files or folders (``parts/*.jsonl``) joins all of them.

    ``sidecars``: a caption file has a caption per line, or is a single caption.

    A single file named after a split is that split. Without splits the only key is ``all``, unless all images are in
    folders named after splits. Raises ``DataError`` with the remedy; the dataset's ``problems`` report left-out data.

    A file may name images in its own folder, or in the folder ``data`` that contains it. A row with another path,
    absolute or with ``../``, is refused unless ``outside`` is set: the file may be untrusted.
    """
    path = Path(data)
    reach = Reach(top=path if path.is_dir() else None, outside=outside)
    try:
        matches = _matches(str(data))
        if tars := _shards(path, matches):
            return _read_shards(tars, sidecars)
        if matches:
            return checked(by_folders(_read_several(matches, outside, sidecars)))
        if path.is_dir():
            try:
                return checked(by_folders(_read_folder(path, reach, sidecars)))
            except NotThisForm:  # files beside the shards without captions
                if not (tars := _shards_in(path)):
                    raise
                return _read_shards(tars, sidecars)
        if path.is_file():
            return checked(by_folders(labelled(read_file(path, reach), split_of(path))))
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from None
    what = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise DataError(f"{shown(path)} {what}; name a folder of images with captions, or a caption file")


def load_split(data: str | Path | Dataset, split: str, *, outside: bool = False) -> Sequence[Sample]:
    """Return the samples of one split: ``train``, ``dev``, ``test``, or ``all`` of them.

    Without splits, ``hold_out`` makes train and dev. Raises ``DataError`` for an unknown split. To get the problems of
    reading, pass the result of ``read_splits``. ``outside``: see ``read_splits``.
    """
    return (data if isinstance(data, Dataset) else read_splits(data, outside=outside)).split(split)


def _matches(data: str) -> list[Path]:
    """Return the files and folders that match a pattern, an empty list for a plain path. Raises ``DataError``."""
    if not has_magic(data) or os.path.lexists(data):
        return []
    paths: list[Path] = []
    for match in matching(data):
        if isinstance(match, Unreadable):
            raise DataError(match.reason)
        paths.append(Path(match))
    if not paths:
        raise DataError(f"no file or folder matches {shown(data)}; check the pattern")
    return paths


def _read_several(paths: Sequence[Path], outside: bool, reading: Reading) -> Dataset:
    """Read and join the matches of a pattern; files and folders named after splits become these splits."""
    if all(is_image_name(path.name) for path in paths):
        raise DataError(f"{shown(paths[0])} is an image without captions; name its folder, or the file of captions")
    images = [path for path in paths if not path.is_dir() and path.suffix.lower() not in READERS]
    rest = [path for path in paths if path not in set(images)]
    if not rest:
        raise DataError(f"{shown(paths[0])} has an unknown format; name files of {', '.join(READERS)}, or folders")
    return joined(
        [
            labelled(_read_folder(path, Reach(top=path, outside=outside), reading), SPLIT_NAMES.get(path.name.lower()))
            if path.is_dir()
            else labelled(read_file(path, Reach(outside=outside)), split_of(path))
            for path in rest
        ]
    )


def _shards(path: Path, matches: Sequence[Path]) -> list[Path]:
    """Return the tar files that ``path`` names, matches or contains, unless there are caption files beside them."""
    if matches:
        return list(matches) if all(map(_is_tar, matches)) else []
    paths = shards.expand(str(path))
    if len(paths) > 1 or (shards.is_shard(path.name) and not path.is_dir()):
        return paths
    if not path.is_dir():
        return []
    files, folders = list_folder(str(path))
    names = [entry.name for entry in (*files, *folders)]
    if any(Path(entry.name).suffix.lower() in READERS and not is_account(entry.name, names) for entry in files):
        return []
    return _shards_in(path)


def _shards_in(folder: Path) -> list[Path]:
    """Return the tar files in a folder, else those in its subfolders named after splits."""
    below = [Path(entry.path) for entry in list_folder(str(folder))[1] if entry.name.lower() in SPLIT_NAMES]
    return shards.in_folder(folder) or [shard for subfolder in below for shard in shards.in_folder(subfolder)]


def _is_tar(path: Path) -> bool:
    return shards.is_shard(path.name) and not path.is_dir()


def _read_shards(paths: Sequence[Path], reading: Reading) -> Dataset:
    """Read shards, with the splits that they or their folders are named after; the others form ``all``."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(split_of(path) or SPLIT_NAMES.get(path.parent.name.lower(), ALL), []).append(path)
    if len(groups) > 1 and ALL in groups:
        raise DataError(
            f"{shown(groups[ALL][0])} is not named after a split, but other shards are; rename it or leave it out"
        )
    parts = [shards.read(group, split, reading) for split, group in groups.items()]
    return Dataset(
        splits={split: samples for part in parts for split, samples in part.splits.items()},
        problems=tuple(problem for part in parts for problem in part.problems),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _read_folder(folder: Path, reach: Reach, reading: Reading) -> Dataset:
    entries, sub_entries = list_folder(str(folder))
    sub_folders = [Path(entry.path) for entry in sub_entries]
    files = _caption_files([entry.name for entry in entries], [path.name for path in sub_folders], folder)

    named = [path for path in files if split_of(path)]
    refused: dict[Path, NotThisForm] = {}
    data = _read_split_files(named, reach, refused)
    if data.splits:
        return data
    metadata = [path for path in files if path.stem == "metadata"]
    data, damaged = _read_one_of(metadata or [path for path in files if path not in named], reach, refused)
    if metadata and damaged:
        raise damaged[0]
    if data.splits:
        return data
    for path in sub_folders:
        if path.name in ANNOTATION_FOLDERS:
            with contextlib.suppress(NotThisForm):
                return _read_folder(path, reach, reading)
    data = _read_split_folders([path for path in sub_folders if path.name.lower() in SPLIT_NAMES], reach, reading)
    if data.splits:
        return data
    try:
        return sidecar_files.read(folder, reading)
    except NotThisForm as error:
        if damaged:
            raise damaged[0] from None
        if refused:  # the reason that the user would get by naming the file
            more = f" ({counted(len(refused) - 1, 'other file', 'were')} skipped too)" if len(refused) > 1 else ""
            raise NotThisForm(f"{next(iter(refused.values()))}{more}; and {error}") from None
        raise NotThisForm(
            f"{error}; looked for train.jsonl and other files named after splits, metadata.jsonl, .csv and .parquet, "
            f"one caption file of another name ({', '.join(READERS)}), and a .caption or .txt file beside each image"
        ) from None


def _caption_files(names: Sequence[str], folders: Sequence[str], folder: Path) -> list[Path]:
    """Return the files that may hold the captions of the folder.

    Skip files that belong to an image or shard of the same name, and ``review.jsonl``, which holds doubtful captions.
    """
    beside, listed = Beside(names), [*names, *folders]
    candidates = [name for name in names if Path(name).suffix.lower() in READERS and not name.startswith("review.")]
    return [
        folder / name
        for name in candidates
        if not is_account(name, listed)
        and not (Path(name).suffix.lower() in (".txt", ".json") and beside.is_owned(name))
    ]


def _read_split_files(paths: Sequence[Path], reach: Reach, refused: dict[Path, NotThisForm]) -> Dataset:
    """Read files named after splits, skip those without captions, and join files of the same split and suffix."""
    parts: list[Dataset] = []
    first: dict[str | None, Path] = {}
    captions = {split_of(path) for path in paths if _is_coco(path)}
    for path in paths:
        if path.suffix == ".json" and split_of(path) in captions and not _is_coco(path):
            continue  # instances_*, person_keypoints_*: hundreds of megabytes without a caption
        try:
            part = read_file(path, reach)
        except NotThisForm as error:
            if _looks_like_captions(path):
                refused[path] = error
            continue
        split = split_of(path)
        if first.setdefault(split, path).suffix != path.suffix:
            raise DataError(f"both {shown(first[split])} and {shown(path)} contain {split}; name or keep one of them")
        parts.append(labelled(part, split))
    return joined(parts)


def _looks_like_captions(path: Path) -> bool:
    """Return whether a file should hold captions, by its name; notes.txt and config.json are common in any folder."""
    return path.stem == "metadata" or "caption" in path.stem.lower() or path.suffix.lower() not in (".txt", ".json")


def _is_coco(path: Path) -> bool:
    return path.suffix == ".json" and path.name.startswith("captions_")


def _read_one_of(
    paths: Sequence[Path], reach: Reach, refused: dict[Path, NotThisForm]
) -> tuple[Dataset, list[DataError]]:
    """Read the only one of these files that holds captions; also return the errors of damaged ones."""
    datasets: dict[Path, Dataset] = {}
    damaged: list[DataError] = []
    for path in paths:
        try:
            datasets[path] = read_file(path, reach)
        except NotThisForm as error:
            if _looks_like_captions(path):
                refused[path] = error
        except DataError as error:
            damaged.append(error)
    original = [path for path in datasets if "lemma" not in path.name]  # Flickr8k also has lemmatised captions
    if len(original or datasets) > 1:
        raise DataError(f"several files contain captions: {some(list(map(str, datasets)))}; name the one to read")
    for path in original or datasets:
        return datasets[path], damaged
    return Dataset(splits={}), damaged


def _read_split_folders(folders: Sequence[Path], reach: Reach, reading: Reading) -> Dataset:
    parts: list[Dataset] = []
    for folder in folders:
        try:
            parts.append(labelled(_read_folder(folder, reach, reading), SPLIT_NAMES[folder.name.lower()]))
        except NotThisForm as error:
            parts.append(Dataset(splits={}, problems=(f"{str(error).partition(';')[0]}; it was left out",)))
    return joined(parts)
