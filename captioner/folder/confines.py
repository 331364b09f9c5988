"""The folders that a run may write to, with symlinks resolved."""

from __future__ import annotations

import os

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.plan import Plan, is_below

_REMEMBERED = 8  # folders in the cache of resolved paths; photos arrive folder by folder


class Confines:
    """The folders that a run may write to: the ``--out`` folder, or else the folders that the command names.

    A photo that was named individually, in a list or by a pattern may be outside them; its files stay in its own
    folder. The plan's ``follow_links`` disables the check.
    """

    def __init__(self, plan: Plan) -> None:
        place = plan.place
        self._free = plan.follow_links
        self._tops = dict.fromkeys((place.out, *((place.root, *place.named) if place.beside else ())))
        self._real_tops = [os.path.realpath(top) for top in self._tops]
        self._folders: dict[str, str] = {}

    def real(self, path: str) -> str:
        """Return the file to write to, with symlinks resolved. Raises ``OutputError`` if it is outside the folders."""
        path = os.path.abspath(path)
        real = self._resolved(path)
        if self._free or self._inside(real):
            return real
        top = next((top for top in self._tops if is_below(path, top)), None)
        if top is None:
            top = os.path.dirname(path)
            if is_below(real, self._resolved_folder(top)):
                return real
        raise OutputError(
            f"cannot write {shown(path)}: a symlink leads to {shown(real)}, out of {shown(top)}; use --follow-links to "
            "write through it, or write elsewhere with --out DIR"
        )

    def allows(self, path: str) -> bool:
        """Return whether ``real`` returns a file instead of raising."""
        try:
            self.real(path)
        except OutputError:
            return False
        return True

    def holds(self, path: str) -> bool:
        """Return whether the file is in the folders that the command names."""
        return self._inside(self._resolved(os.path.abspath(path)))

    def _inside(self, real: str) -> bool:
        return any(is_below(real, top) for top in self._real_tops)

    def _resolved(self, path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.realpath(path) if os.path.islink(path) else os.path.join(self._resolved_folder(folder), name)

    def _resolved_folder(self, folder: str) -> str:
        if folder not in self._folders:
            while len(self._folders) >= _REMEMBERED:
                del self._folders[next(iter(self._folders))]
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder]
