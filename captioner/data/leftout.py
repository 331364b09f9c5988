"""What a walk over folders passes over, counted, so that nothing is left out in silence."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from captioner.data.kinds import is_archive_name, is_bin_name, is_hidden, is_image_name, is_unread_name, is_video_name
from captioner.data.told import counted, some

MOST = 100_000  # folders that are counted: an archive could name any number of them


@dataclass
class LeftOut:
    """Counts of what is left out. With ``everything`` hidden files, thumbnails and deleted files are taken."""

    everything: bool = False
    bins: set[str] = field(default_factory=set)
    hidden_folders: set[str] = field(default_factory=set)
    hidden_images: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    """Archives and videos, which are looked into where they are named."""

    def takes(self, path: str, *, folder: bool) -> bool:
        """Whether an entry of a folder is taken; one that is not is counted."""
        if self.everything:
            return True
        name = os.path.basename(path)
        if folder and is_bin_name(name):
            self._note(self.bins, path)
        elif is_hidden(name):
            if folder:
                self._note(self.hidden_folders, path)
            self.hidden_images += not folder and is_image_name(name)
        else:
            return True
        return False

    def _note(self, folders: set[str], path: str) -> None:
        if len(folders) < MOST:
            folders.add(path)

    def see(self, name: str) -> None:
        """Count a file that is no image to read, by its kind."""
        if is_unread_name(name):
            self.unread["." + name.rpartition(".")[2].lower()] += 1
        elif is_archive_name(name) or is_video_name(name):
            suffix = "." + name.rpartition(".")[2].lower()
            before = ".tar" if name.lower().endswith(f".tar{suffix}") else ""
            self.closed[before + suffix] += 1

    def sentences(self, *, remedy: bool = True) -> list[str]:
        """What was left out; with ``remedy`` also how the command line takes it."""
        passed = []
        if self.bins:
            what = counted(len(self.bins), "folder")
            passed.append(
                f"{what} of thumbnails or deleted files ({some(sorted(set(map(os.path.basename, self.bins))))})"
            )
        if self.hidden_folders:
            passed.append(counted(len(self.hidden_folders), "hidden folder"))
        if self.hidden_images:
            passed.append(counted(self.hidden_images, "hidden image"))
        told = [f"left out: {', '.join(passed)}{'; --all takes them' if remedy else ''}"] if passed else []
        if self.unread:
            told.append(f"not read: {_kinds(self.unread)}; convert them to JPEG, PNG or TIFF first")
        if self.closed and remedy:
            example = next(iter(self.closed))
            told.append(f"not looked into: {_kinds(self.closed)}; name them, such as folder/*{example}")
        return told


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
