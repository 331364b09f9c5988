"""What every reader shares: rows, the search for image files, and the rule for what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from captioner.data.paths import is_folder, shown
from captioner.data.samples import Sample
from captioner.data.splits import ALL, SPLIT_NAMES, Dataset, some
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


class NotThisForm(DataError):
    """A file that holds something else than captions; fatal only if the user named it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry of an annotation file: an image's name, its captions (perhaps none), split and id if it has them."""

    image: str
    captions: tuple[str, ...]
    split: str = ALL
    id: str = ""


class ImageFinder:
    """Finds image files by name below ``root`` and the usual image folders beside it.

    Every folder is listed once; asking the system for each of a hundred thousand files is slow on network disks.
    """

    def __init__(self, root: Path) -> None:
        tops = [root]
        if root.name in ANNOTATION_FOLDERS:
            tops.append(root.resolve().parent)
        self.bases = [str(top) for top in tops]
        self.bases += [str(top / name) for top in tops for name in IMAGE_FOLDERS if (top / name).is_dir()]
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """The first file of that name, which may hold folders, or None."""
        for spelled in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for base in self.bases:
                folder, last = os.path.split(os.path.normpath(os.path.join(base, spelled)))
                if last in self._list(folder):
                    return Path(folder, last)
        return None

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


def gather(rows: Iterable[Row], source: Path, finder: ImageFinder | None = None) -> Dataset:
    """Find the images of ``rows`` and put all captions of one image together, in the order of first mention.

    What is damaged in places is left out and told in ``problems``: empty captions, images without a caption, images
    that are missing. If that takes more than half of the images, something else is wrong, usually the folder, and
    ``DataError`` is raised. So it is for a source without rows.
    """
    finder = finder or ImageFinder(source.parent)
    names: dict[tuple[str, str], str] = {}
    ids: dict[tuple[str, str], str] = {}
    captions: dict[tuple[str, str], list[str]] = {}
    paths: dict[str, Path | None] = {}
    empty = 0
    for row in rows:
        if row.image not in paths:
            paths[row.image] = finder.find(row.image)
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
    problems = [f"{shown(source)}: {empty} empty captions were ignored"] if empty else []
    for keys, what in ((missing, "are missing"), (bare, "have no caption")):
        if keys:
            examples = some([names[key] for key in keys])
            problems.append(f"{shown(source)}: {len(keys)} of {len(names)} images {what} and were left out: {examples}")
    if 2 * len(left_out) > len(names):
        remedy = f"looked for images in {some(finder.bases, 6)}" if missing else "add captions"
        raise DataError(f"{'; '.join(problems)}; too many to go on: {remedy}")
    splits: dict[str, list[Sample]] = {}
    for key, name in names.items():
        if key not in left_out:
            sample = Sample(name=name, path=Path(key[1]), captions=tuple(captions[key]), id=ids[key])
            splits.setdefault(key[0], []).append(sample)
    return Dataset(splits={split: tuple(samples) for split, samples in splits.items()}, problems=tuple(problems))
