"""Spaces around punctuation, put back as people write them.

A BERT tokenizer cuts words at every punctuation mark and does not record where spaces were, so its raw text has a
space around each mark: ``a man ' s t - shirt , 10 : 30``. ``joined`` removes the spaces that people do not write: ``a
    man's t-shirt, 10:30``. The tokens cannot decide every case; these rules choose the more probable one.

- Before ``, . ; : ! ?``, closing brackets and closing quotes there is no space; after opening ones there is none.
- ``"`` and ``'`` open and close in turn. ``'`` is an apostrophe before ``s t re ve ll d m`` and after ``o``, in
  ``5 ' 9``, in the decade ``' 90s``, and after the s of a plural (``dogs ' bowl``), but not after ``says``.
- Hyphens, underscores and slashes join words: ``t-shirt``, ``and/or``. Two hyphens in a row are a dash.
- Numbers: ``3.5``, ``10:30``, ``3,000`` (a comma before exactly three digits), ``50%``, ``$5``, ``#1``, ``10–20``.
- Full stops inside abbreviations and addresses: ``u.s.``, ``p.m.``, ``www.example.com``.
- Chinese and Japanese characters and their punctuation have no spaces between them.
- All other marks (``& + * = @``) keep their spaces.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LOOK_AHEAD = 2  # words that must be known after a mark
_BOTH, _LEFT, _RIGHT, _APART = (True, True), (True, False), (False, True), (False, False)

_CLOSING = frozenset(")]}»”…;!?")
_OPENING = frozenset("([{«“‘")
_QUOTES = frozenset("\"'’")
_CONTRACTIONS = frozenset(("s", "re", "ve", "ll", "d", "m", "em"))
_ELISIONS = frozenset(("o", "d", "l", "y"))  # o'clock, d'or, l'eau, y'all
_NOT_PLURAL = frozenset(  # words in s before a quotation
    (
        "says",
        "reads",
        "words",
        "letters",
        "displays",
        "shows",
        "states",
        "spells",
        "initials",
        "is",
        "was",
        "as",
        "this",
    )
)
_ENDINGS = frozenset(("com", "org", "net", "edu", "gov", "co", "uk", "de", "jpg", "png"))  # of addresses and files
_DECADE = re.compile(r"\d0s?")
_UNSPACED = re.compile("[\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff65\U00020000-\U0002fa1f]")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The place of a mark: the word before it, and the two words after it; empty at the ends of the text."""

    before: str
    after: str
    then: str

    @property
    def in_number(self) -> bool:
        return self.before[-1:].isdecimal() and self.after[:1].isdecimal()

    @property
    def in_word(self) -> bool:
        return self.before[-1:].isalnum() and self.after[:1].isalnum()


class _Spaces:
    """The rules, applied to the words of a text from left to right."""

    def __init__(self) -> None:
        self.before = ""
        self.glued = False  # the word before has no space after it
        self.open: set[str] = set()  # quotes

    def precedes(self, word: str, after: str, then: str) -> bool:
        """Return whether a space comes before ``word``, the next word of the text, given the two words after it."""
        place = _Place(before=self.before, after=after, then=then)
        left, right = self._sides(word, place) if len(word) == 1 else _APART
        unspaced = bool(_UNSPACED.match(self.before[-1:]) and _UNSPACED.match(word[:1]))
        space = not (left or self.glued or unspaced)
        self.before, self.glued = word, right
        return space

    def _sides(self, mark: str, at: _Place) -> tuple[bool, bool]:
        """Return whether ``mark`` joins the word before it, and the word after it."""
        if mark.isalnum():
            return _APART
        if mark in _QUOTES:
            return self._quote(mark, at)
        if mark in _CLOSING:
            return _LEFT
        if mark in _OPENING:
            return _RIGHT
        rule = _RULES.get(mark)
        return rule(at) if rule else _APART

    def _quote(self, mark: str, at: _Place) -> tuple[bool, bool]:
        if mark != '"' and _is_apostrophe(at):
            return _BOTH
        if mark in self.open:
            self.open.remove(mark)
            return _LEFT
        if mark != '"' and _DECADE.fullmatch(at.after):
            return _RIGHT
        if not at.after or mark == "’" or (mark == "'" and _is_plural(at)):
            return _LEFT
        self.open.add(mark)
        return _RIGHT


def _is_apostrophe(at: _Place) -> bool:
    before, after = at.before.lower(), at.after.lower()
    if not at.in_word:
        return False
    return after in _CONTRACTIONS or at.in_number or before in _ELISIONS or (after == "t" and before[-1] == "n")


def _is_plural(at: _Place) -> bool:
    word = at.before.lower()
    quoted = at.then in _QUOTES
    return word[-1:] == "s" and word not in _NOT_PLURAL and at.after[:1].isalnum() and not quoted


def _comma(at: _Place) -> tuple[bool, bool]:
    thousands = at.in_number and len(at.after) == 3 and at.after.isdecimal() and len(at.before) <= 3
    return _BOTH if thousands else _LEFT


def _stop(at: _Place) -> tuple[bool, bool]:
    initials = len(at.before) == len(at.after) == 1 and at.in_word and at.then in ("", ".")
    address = at.before.lower() == "www" or (at.in_word and at.after.lower() in _ENDINGS)
    return _BOTH if at.in_number or initials or address else _LEFT


def _colon(at: _Place) -> tuple[bool, bool]:
    return _BOTH if at.in_number or at.after == "/" else _LEFT


def _hyphen(at: _Place) -> tuple[bool, bool]:
    if at.in_word:
        return _BOTH
    if at.before == "-" or (at.before[-1:].isalnum() and not at.after):
        return _LEFT
    return _RIGHT if not at.before[-1:].isalnum() and at.after[:1].isdecimal() else _APART


_RULES: dict[str, Callable[[_Place], tuple[bool, bool]]] = {
    ",": _comma,
    ".": _stop,
    ":": _colon,
    "-": _hyphen,
    "_": lambda at: _BOTH if at.in_word else _APART,
    "/": lambda at: _BOTH,
    "%": lambda at: _LEFT if at.before[-1:].isdecimal() else _APART,
    "#": lambda at: _RIGHT if at.after[:1].isalnum() else _APART,
    **dict.fromkeys("$£€¥", lambda at: _RIGHT if at.after[:1].isdecimal() else _APART),
    **dict.fromkeys("–—", lambda at: _BOTH if at.in_number else _APART),
}


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the ``pieces`` of a raw text, without the first space of those that are joined to the text before them.

    A piece belongs to a new word if it begins with a space. Each comes once ``LOOK_AHEAD`` further words are complete.
    """
    spaces = _Spaces()
    waiting: deque[list[bytes]] = deque()

    def first() -> list[bytes]:
        word, after, then = (_text(waiting[place]) if place < len(waiting) else "" for place in range(3))
        group = waiting.popleft()
        return group if spaces.precedes(word, after, then) else [group[0].removeprefix(b" "), *group[1:]]

    for piece in pieces:
        if waiting and piece[:1] != b" ":
            waiting[-1].append(piece)
            continue
        if len(waiting) > LOOK_AHEAD:
            yield from first()
        waiting.append([piece])
    while waiting:
        yield from first()


def _text(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace").strip()
