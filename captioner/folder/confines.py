"""Where a run may write: in the folders that the command names, wherever the links in them lead."""

from __future__ import annotations

import os

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.plan import Plan, is_below

_REMEMBERED = 8  # folders whose real place is known, as photos come folder by folder


class Confines:
    """The folders that the files of a run lie in: with ``--out`` that one, else those of the photos.

    A photo that was named one by one, in a list or by a pattern, may lie in none of them; its files stay in its own
    folder. ``follow_links`` of the plan lifts all of it.
    """

    def __init__(self, plan: Plan) -> None:
        place = plan.place
        self._free = plan.follow_links
        self._tops = dict.fromkeys((place.out, *((place.root, *place.named) if place.beside else ())))
        self._real_tops = [os.path.realpath(top) for top in self._tops]
        self._folders: dict[str, str] = {}

    def real(self, path: str) -> str:
        """The file to write to, behind any links. Raises ``OutputError`` for one that a link puts somewhere else."""
        path = os.path.abspath(path)
        real = self._behind(path)
        if self._free or self._inside(real):
            return real
        top = next((top for top in self._tops if is_below(path, top)), None)
        if top is None:
            top = os.path.dirname(path)
            if is_below(real, self._behind_folder(top)):
                return real
        raise OutputError(
            f"cannot write {shown(path)}: a link leads from there to {shown(real)}, out of {shown(top)}; give "
            "--follow-links to write through it, or write elsewhere with --out DIR"
        )

    def allows(self, path: str) -> bool:
        """Whether ``real`` gives a file."""
        try:
            self.real(path)
        except OutputError:
            return False
        return True

    def holds(self, path: str) -> bool:
        """Whether the file lies in the folders that the command names; one of a list or pattern need not."""
        return self._inside(self._behind(os.path.abspath(path)))

    def _inside(self, real: str) -> bool:
        return any(is_below(real, top) for top in self._real_tops)

    def _behind(self, path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.realpath(path) if os.path.islink(path) else os.path.join(self._behind_folder(folder), name)

    def _behind_folder(self, folder: str) -> str:
        if folder not in self._folders:
            while len(self._folders) >= _REMEMBERED:
                del self._folders[next(iter(self._folders))]
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder]
