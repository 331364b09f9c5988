"""Label words: nouns that name what a photo shows, found in captions in their singular and plural forms."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
_WORD = re.compile(r"[a-z]+")


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


class LabelFinder:
    """The labels that a caption names.

    ::

        finder = LabelFinder(["dog", "hot dog", "knife"])
        finder.find("Two dogs, and a hot dog beside knives.")  # {0, 1, 2}
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._places: dict[tuple[str, ...], int] = {}
        for place, label in enumerate(self.labels):
            for form in (label, plural(label)):
                self._places.setdefault(tuple(form.split(" ")), place)
        self._longest = max((len(form) for form in self._places), default=0)

    def find(self, caption: str) -> set[int]:
        """Return the places of the labels that ``caption`` names; of labels that overlap the longest one counts."""
        words = _WORD.findall(caption.lower())
        found: set[int] = set()
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                place = self._places.get(tuple(words[at : at + length]))
                if place is not None:
                    found.add(place)
                    at += length - 1
                    break
            at += 1
        return found
