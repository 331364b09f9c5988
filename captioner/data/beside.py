"""The rule that matches caption files to images, for training, inspection and writing.

The name of a caption file decides: ``dog.jpg.txt``, else ``dog.txt``, in any case (``DOG.JPG`` and ``dog.TXT``).
``dog.txt`` belongs to both ``dog.jpg`` and ``dog.png`` if both exist, ``dog.jpg.txt`` to ``dog.jpg`` alone, even beside
``dog.jpg.png``. ``s0.outputs.txt`` belongs to ``s0.input.jpg`` if each is the only one of the sample ``s0``. An empty
file holds no caption.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable

from captioner.data.paths import is_image_name
from captioner.system.names import folded

CAPTION_SUFFIXES = (".caption", ".txt")
"""The suffixes of caption files. ``.caption`` comes first: if both exist, ``.txt`` usually holds tags."""


class Beside:
    """The matching of caption files and images in one folder.

    ::

        beside = Beside(["dog.jpg", "dog.png", "dog.txt"])
        beside.files("dog.jpg", ".txt")  # ["dog.txt"]
        beside.own("dog.jpg", ".txt")  # "dog.jpg.txt", since dog.txt belongs to dog.png too

    ``names``: the names in the folder of the images. ``texts``: those in the folder of the captions, if it differs.
    """

    def __init__(self, names: Iterable[str], texts: Iterable[str] | None = None) -> None:
        listed = list(names)
        images = [name for name in listed if is_image_name(name)]
        self._texts = frozenset(name for name in (listed if texts is None else texts) if not is_image_name(name))
        self._exact = {spelled for name in images for spelled in (name, _stem(name))}
        stems = Counter(folded(_stem(name)) for name in images)
        whole = {folded(name) for name in images}
        self._taken = stems.keys() & whole  # stems that are the name of another image
        self._shared = frozenset(stem for stem, count in stems.items() if count > 1) | self._taken
        self._owners = whole | stems.keys()
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._texts):
            self._folded[folded(name)].append(name)
        self._samples = Counter(_sample(name) for name in images if "." in _stem(name))
        self._parts: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(self._texts):
            if "." in _stem(name) and not self._has_owner(name) and _sample(name) in self._samples:
                self._parts[_sample(name), os.path.splitext(name)[1].lower()].append(name)

    def files(self, image: str, suffix: str) -> list[str]:
        """Return the files with this suffix that belong to an image, the most specific first."""
        stem = _stem(image)
        names = (image,) if folded(stem) in self._taken else (image, stem)
        matches: list[str] = []
        for name in (name + suffix for name in names):
            matches += [name] if name in self._texts else []
            # A file with the exact stem of another image (a.txt, besides A.jpg and a.jpg) belongs to that image.
            similar = self._folded.get(folded(name), ())
            matches += [other for other in similar if _stem(other) in names or _stem(other) not in self._exact]
        if self._samples[_sample(image)] == 1 and "." in _stem(image) and not matches:
            matches += self._parts.get((_sample(image), suffix), ())[:2]
            matches = matches if len(matches) == 1 else []
        return list(dict.fromkeys(matches))

    def own(self, image: str, suffix: str) -> str:
        """Return the name of a file that belongs to this image alone, existing or new."""
        stem = _stem(image)
        shared = folded(stem) in self._shared
        first = (image if shared else stem) + suffix
        own_names = folded(image + suffix), folded(first)
        return next((name for name in self.files(image, suffix) if folded(name) in own_names), first)

    def is_owned(self, name: str) -> bool:
        """Return whether a text file belongs to an image by its name."""
        suffix = os.path.splitext(name)[1].lower()
        return self._has_owner(name) or (
            self._samples[_sample(name)] == 1 and self._parts.get((_sample(name), suffix)) == [name]
        )

    def _has_owner(self, name: str) -> bool:
        return folded(_stem(name)) in self._owners


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _sample(name: str) -> str:
    """Return the part before the first dot, which names a sample of a WebDataset."""
    return folded(name.partition(".")[0])
