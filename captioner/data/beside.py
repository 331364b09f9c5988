"""Which text file beside an image holds its caption: one rule for training, inspection and writing.

A file belongs to an image by its name: ``dog.jpg.txt``, else ``dog.txt``, in capitals or not (``DOG.JPG`` and
``dog.TXT``). ``dog.txt`` belongs to ``dog.jpg`` and to ``dog.png`` where both are there. ``s0.outputs.txt`` belongs to
``s0.input.jpg`` where both are the only ones of the sample ``s0``. A file without text holds no caption.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable

from captioner.data.paths import is_image_name

CAPTION_SUFFIXES = (".caption", ".txt")
"""The suffixes that captions may have. ``.caption`` comes first: where there are both, ``.txt`` usually holds tags."""


class Beside:
    """The names in one folder. ``texts``: the names in the folder where captions lie, if it is another one."""

    def __init__(self, names: Iterable[str], texts: Iterable[str] | None = None) -> None:
        listed = list(names)
        images = [name for name in listed if is_image_name(name)]
        self._texts = frozenset(name for name in (listed if texts is None else texts) if not is_image_name(name))
        self._exact = {spelled for name in images for spelled in (name, _stem(name))}
        stems = Counter(_stem(name).casefold() for name in images)
        self._shared = frozenset(stem for stem, count in stems.items() if count > 1)
        self._owners = {name.casefold() for name in images} | stems.keys()
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._texts):
            self._folded[name.casefold()].append(name)
        self._samples = Counter(_sample(name) for name in images if "." in _stem(name))
        self._parts: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(self._texts):
            if "." in _stem(name) and not self._has_owner(name) and _sample(name) in self._samples:
                self._parts[_sample(name), os.path.splitext(name)[1].lower()].append(name)

    def files(self, image: str, suffix: str) -> list[str]:
        """The files of that suffix that belong to an image, the surest first."""
        names = (image, _stem(image))
        found: list[str] = []
        for name in (name + suffix for name in names):
            found += [name] if name in self._texts else []
            # A file that has another image's very name (a.txt, where there are A.jpg and a.jpg) is that image's.
            like = self._folded.get(name.casefold(), ())
            found += [other for other in like if _stem(other) in names or _stem(other) not in self._exact]
        if self._samples[_sample(image)] == 1 and "." in _stem(image) and not found:
            found += self._parts.get((_sample(image), suffix), ())[:2]
            found = found if len(found) == 1 else []
        return list(dict.fromkeys(found))

    def own(self, image: str, suffix: str) -> str:
        """The name of a file that belongs to this image alone: of one that is there, else of a new one."""
        stem = _stem(image)
        shared = stem.casefold() in self._shared
        first = (image if shared else stem) + suffix
        mine = (image + suffix).casefold(), first.casefold()
        return next((name for name in self.files(image, suffix) if name.casefold() in mine), first)

    def is_owned(self, name: str) -> bool:
        """Whether a file that is no image belongs to one by its name."""
        suffix = os.path.splitext(name)[1].lower()
        return self._has_owner(name) or (
            self._samples[_sample(name)] == 1 and self._parts.get((_sample(name), suffix)) == [name]
        )

    def _has_owner(self, name: str) -> bool:
        return _stem(name).casefold() in self._owners


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _sample(name: str) -> str:
    """The part before the first dot, which names a sample of a WebDataset."""
    return name.partition(".")[0].casefold()
