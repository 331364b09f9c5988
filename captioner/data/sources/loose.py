"""Image files by names that are not quite theirs: in another case, or without the suffix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from captioner.data.paths import is_image_name


class LooseNames:
    """Looks names up in folders that ``files`` lists; of several files that fit none is taken."""

    def __init__(self, files: Callable[[str], Iterable[str]]) -> None:
        self._files = files
        self._folded: dict[str, dict[str, set[str]]] = {}
        self._folders: dict[str, dict[str, set[str]]] = {}

    def find(self, base: str, name: str) -> Path | None:
        """The one file below ``base`` that fits the name, whose folders may be in another case too."""
        *folders, last = [part for part in name.split("/") if part not in ("", ".")] or [""]
        if os.path.isabs(name) or ".." in (*folders, last) or not last:
            return None
        place = base
        for folder in folders:
            exact = os.path.join(place, folder)
            fit = {folder} if os.path.isdir(exact) else self._folders_in(place).get(folder.casefold(), set())
            if len(fit) != 1:
                return None
            place = os.path.join(place, *fit)
        files = self._files_in(place)
        fit = files.get(last.casefold()) or files.get(last.casefold() + "\0", set())
        return Path(place, *fit) if len(fit) == 1 else None

    def _files_in(self, folder: str) -> dict[str, set[str]]:
        """File names by what they are in lower case; images also without their suffix, with a mark behind."""
        if folder not in self._folded:
            names = self._folded[folder] = {}
            for name in self._files(folder):
                names.setdefault(name.casefold(), set()).add(name)
                if is_image_name(name):
                    names.setdefault(os.path.splitext(name)[0].casefold() + "\0", set()).add(name)
        return self._folded[folder]

    def _folders_in(self, folder: str) -> dict[str, set[str]]:
        if folder not in self._folders:
            names = self._folders[folder] = {}
            try:
                with os.scandir(folder or os.curdir) as entries:
                    for name in (entry.name for entry in entries if entry.is_dir()):
                        names.setdefault(name.casefold(), set()).add(name)
            except (OSError, ValueError):
                pass
        return self._folders[folder]
