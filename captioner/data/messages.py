"""Helpers for messages about data: numbers with nouns, a few of many names, and problems that keep all names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/]*@", re.IGNORECASE)


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message, on one line, with unprintable characters and bytes escaped.

    User and password of a URL are left out.
    """
    text = _ADDRESS.sub(r"\1***@", os.fsdecode(path))
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text) or "''"


class Problem(str):
    """A message about files, which shows a few of their names."""

    names: tuple[str, ...]  # all of their names, for reports

    def __new__(cls, sentence: str, names: Iterable[str] = ()) -> Problem:
        problem = super().__new__(cls, sentence)
        problem.names = tuple(names)
        return problem


def names_of(sentence: str) -> tuple[str, ...]:
    """Return all names that a problem is about; none for a plain string."""
    return sentence.names if isinstance(sentence, Problem) else ()


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return ``1 image``, ``2 images``; with the verb "are", ``1 image is``, ``2 images are``. ``noun``: singular."""
    phrase = f"{number} {noun if number == 1 else noun + 's'}"
    return f"{phrase} {agreeing(number, verb)}" if verb else phrase


def agreeing(number: int, verb: str) -> str:
    """Return a plural verb in the form that agrees with the number."""
    return _SINGULAR.get(verb, verb + "s") if number == 1 else verb


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names, for a message."""
    return ", ".join(shown(name) for name in names[:most]) + (", ..." if len(names) > most else "")


_SINGULAR = {"are": "is", "have": "has", "were": "was", "do": "does", "match": "matches"}
