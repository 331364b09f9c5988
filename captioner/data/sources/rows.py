"""Code that all readers share: rows, the search for image files, and the treatment of missing values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from captioner.data.messages import Problem, agreeing, counted, some
from captioner.data.paths import is_folder, shown
from captioner.data.samples import Sample
from captioner.data.sources.loose import LooseNames
from captioner.data.splits import ALL, SPLIT_NAMES, Dataset
from captioner.errors import DataError
from captioner.system.names import may_leave

# Folders of annotations and images in the known datasets.
ANNOTATION_FOLDERS = ("annotations", "captions", "Flickr8k_text")
IMAGE_FOLDERS = (
    "images",
    "Images",
    *(f"{split}{year}" for year in ("2014", "2017") for split in ("train", "val", "test")),
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "flickr30k-images",
)


_MISSING = frozenset(("nan", "none", "null", "n/a", "#n/a", "<na>"))
_WHOLE = re.compile(r"(\d+)\.0+", re.ASCII)


class NotThisForm(DataError):
    """A file without captions; fatal only if the user named it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry of an annotation file."""

    image: str  # name of the image
    captions: tuple[str, ...]  # may be empty
    split: str = ALL
    id: str = ""
    where: str = ""  # position in the file, for messages


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The folders whose images a file may name: its own, ``top``, or with ``outside`` any.

    An untrusted file could name any file of this machine or its network.
    """

    top: Path | None = None
    outside: bool = False


OWN_FOLDER = Reach()


class ImageFinder:
    """A search for image files by name below ``root`` and in the usual image folders beside it.

    Every folder is listed once: a system call per file is slow on network file systems for a hundred thousand files.
    Folders out of ``reach`` are never listed.
    """

    def __init__(self, root: Path, reach: Reach = OWN_FOLDER) -> None:
        tops = [root]
        if root.name in ANNOTATION_FOLDERS:
            tops.append(root.resolve().parent)
        self.bases = [str(top) for top in tops]
        self.bases += [str(top / name) for top in tops for name in IMAGE_FOLDERS if (top / name).is_dir()]
        self._listed: dict[str, frozenset[str]] = {}
        self._loose = LooseNames(self._list)
        self._outside = reach.outside
        self._tops = [os.path.abspath(top) for top in (*tops, *filter(None, [reach.top]))]

    def find(self, name: str, where: str = "") -> Path | None:
        """Return the first file with this name, which may include folders, or None.

        Without an exact match, ignore case, then also a missing suffix. Raises ``DataError`` for a name outside the
        allowed folders, with its position ``where``.
        """
        leaves = False
        for spelled in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for base in self.bases:
                whole = os.path.normpath(os.path.join(base, spelled))
                if not (self._outside or self._reaches(spelled, whole)):
                    leaves = True
                    continue
                folder, last = os.path.split(whole)
                if last in self._list(folder):
                    return Path(folder, last)
        if leaves:
            raise DataError(
                f"{where or 'a row'} names {shown(name)}, which is outside {shown(self._tops[-1])}; move the image "
                "there, or use --outside (outside=True in Python) if this file may name any image of this machine"
            )
        for base in self.bases:
            if (path := self._loose.find(base, name.replace("\\", "/"))) is not None:
                return path
        return None

    def _reaches(self, spelled: str, whole: str) -> bool:
        if not may_leave(spelled):
            return True
        path = os.path.normcase(os.path.abspath(whole))
        return any(path.startswith(os.path.normcase(os.path.join(top, ""))) for top in self._tops)

    def _list(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                with os.scandir(folder or os.curdir) as entries:
                    self._listed[folder] = frozenset(entry.name for entry in entries if not is_folder(entry))
            except PermissionError:
                raise DataError(f"the image folder {shown(folder)} cannot be listed: permission denied") from None
            except (OSError, ValueError):
                self._listed[folder] = frozenset()
        return self._listed[folder]


def is_missing(value: object) -> bool:
    """Return whether a cell is a missing value: None, NaN, or a string that pandas and others write for it."""
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain_id(value: object) -> str | None:
    """Return a name or number as text, ``1.0`` as ``1`` (pandas converts integers to floats); None for other types."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return match[1] if (match := _WHOLE.fullmatch(value.strip())) else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def clean(caption: str) -> str:
    """Return a caption on one line, stripped, with lone surrogates (possible in JSON, not in UTF-8) replaced."""
    return " ".join(caption.split()).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def named_split(value: object, where: str) -> str:
    """Return the split of a row, ``all`` for a missing value. Raises ``DataError`` for an unknown split."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return ALL
    split = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        known = ", ".join(SPLIT_NAMES)
        raise DataError(f"{where} has the unknown split {value!r}; use one of {known}")
    return split


def gather(
    rows: Iterable[Row], source: Path, finder: ImageFinder | None = None, *, reach: Reach = OWN_FOLDER
) -> Dataset:
    """Find the images of ``rows`` and group the captions of each image, in the order of first mention.

    Empty captions, missing images and images without a caption are left out and reported in ``problems``. Raises
    ``DataError`` if that affects more than half of the images (usually the folder is wrong), for a source without rows,
    and for a row whose image is out of ``reach``.
    """
    finder = finder or ImageFinder(source.parent, reach)
    names: dict[tuple[str, str], str] = {}
    ids: dict[tuple[str, str], str] = {}
    captions: dict[tuple[str, str], list[str]] = {}
    paths: dict[str, Path | None] = {}
    empty = 0
    for row in rows:
        if row.image not in paths:
            paths[row.image] = finder.find(row.image, row.where or shown(source))
        key = (row.split, str(paths[row.image] or row.image))
        names.setdefault(key, row.image)
        ids.setdefault(key, row.id)
        texts = [text for text in map(clean, row.captions) if text]
        empty += len(row.captions) - len(texts)
        captions.setdefault(key, []).extend(texts)
    if not names:
        raise DataError(f"{shown(source)} is empty: it contains no captions; check the file")

    missing = [key for key, name in names.items() if paths[name] is None]
    bare = [key for key in names if not captions[key]]
    left_out = {*missing, *bare}
    problems = [f"{shown(source)}: {counted(empty, 'empty caption', 'were')} ignored"] if empty else []
    for keys, verb, what in ((missing, "are", "missing"), (bare, "have", "no caption")):
        if keys:
            verb, were = agreeing(len(keys), verb), agreeing(len(keys), "were")
            affected = [names[key] for key in keys]
            share = f"{len(keys)} of {counted(len(names), 'image')}"
            sentence = f"{shown(source)}: {share} {verb} {what} and {were} left out: {some(affected)}"
            problems.append(Problem(sentence, affected))
    if 2 * len(left_out) > len(names):
        remedy = f"looked for images in {some(finder.bases, 6)}" if missing else "add captions"
        raise DataError(f"{'; '.join(problems)}; too many to continue: {remedy}")
    splits: dict[str, list[Sample]] = {}
    for key, name in names.items():
        if key not in left_out:
            sample = Sample(name=name, path=Path(key[1]), captions=tuple(captions[key]), id=ids[key])
            splits.setdefault(key[0], []).append(sample)
    return Dataset(splits={split: tuple(samples) for split, samples in splits.items()}, problems=tuple(problems))
