"""Label words in captions: nouns, found in their singular and plural forms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from captioner.metrics.words import UNSPACED

_IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "ox": "oxen",
    "leaf": "leaves",
    "shelf": "shelves",
    "knife": "knives",
    "calf": "calves",
    "wolf": "wolves",
    "cactus": "cacti",
    "policeman": "policemen",
}
_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]+")


def plural(noun: str) -> str:
    """Return the plural of an English noun or noun phrase: ``wine glass`` -> ``wine glasses``."""
    *before, last = noun.split(" ")
    if last in _IRREGULAR:
        many = _IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        many = last + "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = last[:-1] + "ies"
    elif last in ("tomato", "potato"):
        many = last + "es"
    else:
        many = last + "s"
    return " ".join([*before, many])


def label_words(text: str) -> list[str]:
    """Return the words of a label or a caption: ``T-shirt 2`` -> ``t``, ``shirt``; unspaced scripts by character."""
    return _WORD.findall(text.lower())


class LabelFinder:
    """A finder of the labels that a caption mentions.

    ::

        finder = LabelFinder(["dog", "hot dog", "knife"])
        finder.find("Two dogs, and a hot dog beside knives.")  # {0, 1, 2}
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._index: dict[tuple[str, ...], int] = {}
        for number, label in enumerate(self.labels):
            for form in (label, plural(label)):
                self._index.setdefault(tuple(label_words(form)), number)
        self._index.pop((), None)
        self._longest = max((len(form) for form in self._index), default=0)

    def find(self, caption: str) -> set[int]:
        """Return the indices of the labels that ``caption`` mentions; the longest of overlapping labels counts."""
        return {label for _, _, label in self.spans(caption)}

    def spans(self, caption: str) -> Iterator[tuple[int, int, int]]:
        """Yield (start, end, label) of each mention, in order: ``caption[start:end]`` names the label of this index."""
        found = list(_WORD.finditer(caption))
        words = [match.group().lower() for match in found]
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                label = self._index.get(tuple(words[at : at + length]))
                if label is not None:
                    yield found[at].start(), found[at + length - 1].end(), label
                    at += length - 1
                    break
            at += 1
