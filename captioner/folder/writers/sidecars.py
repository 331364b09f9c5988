"""Caption files beside photos, ``dog.txt`` or ``dog.caption``: UTF-8, one caption per line."""

from __future__ import annotations

import os

from captioner.data.paths import decoded, shown
from captioner.errors import OutputError
from captioner.folder.atomic import refused, replace_file
from captioner.folder.confines import Confines
from captioner.folder.entry import Entry, Photo, Slot
from captioner.folder.own import read_small
from captioner.folder.plan import Output, Plan
from captioner.folder.writers.base import Neighbours, places


class Sidecars:
    """The writer of caption files, ``.txt`` or ``.caption``."""

    def __init__(self, name: Output, plan: Plan, neighbours: Neighbours) -> None:
        self.name: str = name
        self._plan, self._neighbours, self._confines = plan, neighbours, Confines(plan)

    def slot(self, photo: Photo) -> Slot:
        """Return the photo's caption file and the existing text, in this file or in one shared with other photos."""
        suffix, strict = f".{self.name}", self._plan.existing in ("append", "prepend")
        file = self._neighbours.file(photo, suffix)
        texts = (_text(path, strict=strict) for path in self._neighbours.found(photo, suffix))
        slot = Slot(file, next((text for text in texts if text.strip()), ""))
        if self._plan.existing != "skip" or not slot.old.strip():
            self._confines.real(file)
        return slot

    def places(self, key: str) -> tuple[str, ...]:
        return places(self._plan.place, key, f".{self.name}")

    def write(self, entry: Entry, token: str) -> None:
        slot = entry.slots[self.name]
        new = "\n".join(self._plan.compose(caption.text, entry.id) for caption in entry.captions)
        text = self._plan.combine(slot.old, new) + "\n"
        try:
            file = self._confines.real(slot.file)
            if not self._plan.place.beside:
                os.makedirs(os.path.dirname(file), exist_ok=True)
            replace_file(file, [text.encode("utf-8", "replace")], token)
        except OSError as error:
            raise refused(slot.file, error) from error


def _text(path: str, *, strict: bool) -> str:
    """Return the content of a text file, decoded as UTF-8 or by its byte order mark; "" for a missing file.

    With ``strict``, raise ``OutputError`` for another encoding: its text would be lost.
    """
    try:
        data = read_small(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OutputError(
            f"cannot read {shown(path)}: {why}; fix the cause, or write elsewhere with --out DIR"
        ) from None
    try:
        return decoded(data)
    except UnicodeDecodeError:
        if strict:
            raise OutputError(f"cannot append to {shown(path)}: it is not UTF-8 text; save it as UTF-8") from None
        return data.decode("utf-8", "replace")
