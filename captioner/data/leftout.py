"""Counts of the files that a walk over folders leaves out, so that nothing is skipped silently."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from captioner.data.kinds import is_archive_name, is_bin_name, is_hidden, is_image_name, is_unread_name, is_video_name
from captioner.data.messages import counted, some

MOST = 100_000  # folders to remember: an archive could name any number of them


@dataclass
class LeftOut:
    """Counts of left-out files."""

    everything: bool = False  # include hidden files, thumbnails and deleted files
    bins: set[str] = field(default_factory=set)  # folders of thumbnails or deleted files
    hidden_folders: set[str] = field(default_factory=set)
    hidden_images: int = 0
    unread: Counter[str] = field(default_factory=Counter)  # images of unsupported formats, by suffix
    closed: Counter[str] = field(default_factory=Counter)  # archives and videos inside folders, by suffix

    def takes(self, path: str, *, folder: bool) -> bool:
        """Return whether to include an entry of a folder; count it otherwise."""
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
        """Count a file that is not a supported image, by its kind."""
        if is_unread_name(name):
            self.unread["." + name.rpartition(".")[2].lower()] += 1
        elif is_archive_name(name) or is_video_name(name):
            suffix = "." + name.rpartition(".")[2].lower()
            before = ".tar" if name.lower().endswith(f".tar{suffix}") else ""
            self.closed[before + suffix] += 1

    def sentences(self, *, remedy: bool = True) -> list[str]:
        """Return messages about left-out files, with ``remedy`` including the options to read them."""
        parts = []
        if self.bins:
            names = some(sorted(set(map(os.path.basename, self.bins))))
            parts.append(f"{counted(len(self.bins), 'folder')} of thumbnails or deleted files ({names})")
        if self.hidden_folders:
            parts.append(counted(len(self.hidden_folders), "hidden folder"))
        if self.hidden_images:
            parts.append(counted(self.hidden_images, "hidden image"))
        messages = [f"left out: {', '.join(parts)}{'; --all includes them' if remedy else ''}"] if parts else []
        if self.unread:
            messages.append(f"not supported: {_kinds(self.unread)}; convert them to JPEG, PNG or TIFF first")
        if self.closed and remedy:
            example = next(iter(self.closed))
            messages.append(f"not opened: {_kinds(self.closed)}; name them, such as folder/*{example}")
        return messages


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
