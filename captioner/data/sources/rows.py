"""What every reader shares: rows, the search for image files, and the rule for what is missing."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from captioner.data.paths import is_folder, shown
from captioner.data.samples import Sample
from captioner.data.sources.loose import LooseNames
from captioner.data.splits import ALL, SPLIT_NAMES, Dataset
from captioner.data.told import Problem, agreeing, counted, some
from captioner.errors import DataError

# Where annotation files and image folders of the known datasets stand to each other.
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
    """A file that holds something else than captions; fatal only if the user named it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry of an annotation file: an image's name, its captions (perhaps none), split and id if it has them.

    ``where`` is its place in the file, for messages.
    """

    image: str
    captions: tuple[str, ...]
    split: str = ALL
    id: str = ""
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where the images that a file names may lie: in its own folder, in ``top`` too, or with ``outside`` anywhere.

    A file may come from somebody else, and name any file of this machine or of its network.
    """

    top: Path | None = None
    outside: bool = False


OWN_FOLDER = Reach()


class ImageFinder:
    """Finds image files by name below ``root`` and the usual image folders beside it.

    Every folder is listed once; asking the system for each of a hundred thousand files is slow on network disks.
    Folders out of ``reach`` are not listed at all.
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
        """The first file of that name, which may hold folders, or None.

        Where there is none, the case of the name does not count, and then a suffix may be missing. Raises ``DataError``
        for a name that leads out of the folders where images may lie; ``where`` is its place.
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
                f"{where or 'a row'} names {shown(name)}, which lies outside {shown(self._tops[-1])}; put the image in "
                "there, or give --outside (outside=True in Python) if this file may name any image of this machine"
            )
        for base in self.bases:
            if (found := self._loose.find(base, name.replace("\\", "/"))) is not None:
                return found
        return None

    def _reaches(self, spelled: str, whole: str) -> bool:
        if not (os.path.isabs(spelled) or os.path.splitdrive(spelled)[0] or ".." in spelled):
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
    """Whether a cell holds no value: nothing, or the word by which pandas and others write that."""
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain_id(value: object) -> str | None:
    """A name or number as text, ``1.0`` as ``1``: pandas makes such of whole numbers. None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return found[1] if (found := _WHOLE.fullmatch(value.strip())) else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def clean(caption: str) -> str:
    """One line without outer spaces; half surrogate pairs, which JSON can hold and UTF-8 cannot, are replaced."""
    return " ".join(caption.split()).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def named_split(value: object, where: str) -> str:
    """The split that a row names; nothing means none. Raises ``DataError`` for a word that is no split."""
    if value is None or value == "":
        return ALL
    split = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        known = ", ".join(SPLIT_NAMES)
        raise DataError(f"{where} has the split {value!r}, which is none of {known}; correct it")
    return split


def gather(
    rows: Iterable[Row], source: Path, finder: ImageFinder | None = None, *, reach: Reach = OWN_FOLDER
) -> Dataset:
    """Find the images of ``rows`` and put all captions of one image together, in the order of first mention.

    What is damaged in places is left out and told in ``problems``: empty captions, images without a caption, images
    that are missing. If that takes more than half of the images, something else is wrong, usually the folder, and
    ``DataError`` is raised. So it is for a source without rows, and for a row whose image is out of ``reach``.
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
        raise DataError(f"{shown(source)} is empty: it holds no captions; check the file")

    missing = [key for key, name in names.items() if paths[name] is None]
    bare = [key for key in names if not captions[key]]
    left_out = {*missing, *bare}
    problems = [f"{shown(source)}: {counted(empty, 'empty caption', 'were')} ignored"] if empty else []
    for keys, verb, what in ((missing, "are", "missing"), (bare, "have", "no caption")):
        if keys:
            verb, were = agreeing(len(keys), verb), agreeing(len(keys), "were")
            found = [names[key] for key in keys]
            of = f"{len(keys)} of {counted(len(names), 'image')}"
            problems.append(Problem(f"{shown(source)}: {of} {verb} {what} and {were} left out: {some(found)}", found))
    if 2 * len(left_out) > len(names):
        remedy = f"looked for images in {some(finder.bases, 6)}" if missing else "add captions"
        raise DataError(f"{'; '.join(problems)}; too many to go on: {remedy}")
    splits: dict[str, list[Sample]] = {}
    for key, name in names.items():
        if key not in left_out:
            sample = Sample(name=name, path=Path(key[1]), captions=tuple(captions[key]), id=ids[key])
            splits.setdefault(key[0], []).append(sample)
    return Dataset(splits={split: tuple(samples) for split, samples in splits.items()}, problems=tuple(problems))
