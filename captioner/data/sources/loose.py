"""Finding image files by names in another case or without the suffix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from captioner.data.paths import is_image_name
from captioner.system.names import folded, has_drive


class LooseNames:
    """A lookup of names in folders that ``files`` lists; an ambiguous name matches no file."""

    def __init__(self, files: Callable[[str], Iterable[str]]) -> None:
        self._files = files
        self._folded: dict[str, dict[str, set[str]]] = {}
        self._folders: dict[str, dict[str, set[str]]] = {}

    def find(self, base: str, name: str) -> Path | None:
        """Return the only file below ``base`` that matches the name, with folders in any case."""
        *folders, last = [part for part in name.split("/") if part not in ("", ".")] or [""]
        parts = *folders, last
        if not last or os.path.isabs(name) or ".." in parts or any(map(has_drive, parts)):
            return None
        path = base
        for folder in folders:
            exact = os.path.join(path, folder)
            matches = {folder} if os.path.isdir(exact) else self._folders_in(path).get(folded(folder), set())
            if len(matches) != 1:
                return None
            path = os.path.join(path, *matches)
        files = self._files_in(path)
        matches = files.get(folded(last)) or files.get(folded(last) + "\0", set())
        return Path(path, *matches) if len(matches) == 1 else None

    def _files_in(self, folder: str) -> dict[str, set[str]]:
        """Return file names by folded name; images also by their stem, marked with a null character."""
        if folder not in self._folded:
            names = self._folded[folder] = {}
            for name in self._files(folder):
                names.setdefault(folded(name), set()).add(name)
                if is_image_name(name):
                    names.setdefault(folded(os.path.splitext(name)[0]) + "\0", set()).add(name)
        return self._folded[folder]

    def _folders_in(self, folder: str) -> dict[str, set[str]]:
        if folder not in self._folders:
            names = self._folders[folder] = {}
            try:
                with os.scandir(folder or os.curdir) as entries:
                    for name in (entry.name for entry in entries if entry.is_dir()):
                        names.setdefault(folded(name), set()).add(name)
            except (OSError, ValueError):
                pass
        return self._folders[folder]
