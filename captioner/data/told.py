"""Sentences about data: numbers with their nouns, a few names out of many, and problems that keep all names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/]*@", re.IGNORECASE)


def shown(path: str | os.PathLike[str]) -> str:
    """A path on one line of a message: what cannot be printed is escaped (newlines, bytes that are not UTF-8).

    Of a URL the user and password are left out.
    """
    text = _ADDRESS.sub(r"\1***@", os.fsdecode(path))
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text) or "''"


class Problem(str):
    """A sentence about some files. It shows a few of their ``names`` and keeps all of them, for reports."""

    names: tuple[str, ...]

    def __new__(cls, sentence: str, names: Iterable[str] = ()) -> Problem:
        problem = super().__new__(cls, sentence)
        problem.names = tuple(names)
        return problem


def names_of(sentence: str) -> tuple[str, ...]:
    """All names that a problem is about; none for a plain sentence."""
    return sentence.names if isinstance(sentence, Problem) else ()


def counted(number: int, noun: str, verb: str = "") -> str:
    """``1 image``, ``2 images``; with ``verb`` "are": ``1 image is``, ``2 images are``. The noun is in the singular."""
    told = f"{number} {noun if number == 1 else noun + 's'}"
    return f"{told} {agreeing(number, verb)}" if verb else told


def agreeing(number: int, verb: str) -> str:
    """The verb, given in the plural, as the number wants it."""
    return _SINGULAR.get(verb, verb + "s") if number == 1 else verb


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(shown(name) for name in names[:most]) + (", ..." if len(names) > most else "")


_SINGULAR = {"are": "is", "have": "has", "were": "was", "do": "does"}
