"""Spaces around punctuation, put back as people write them.

A BERT tokenizer cuts words at every punctuation mark and does not record where spaces were, so its raw text has a
space around each mark: ``a man ' s t - shirt , 10 : 30``. ``joined`` removes the spaces that people do not write: ``a
    man's t-shirt, 10:30``. The tokens cannot decide every case; these rules choose the more probable one.

- Before ``, . ; : ! ?``, closing brackets and closing quotes there is no space; after opening ones there is none. ``“``
  opens, and closes after ``„``.
- ``"`` and ``'`` open and close in turn. ``'`` is an apostrophe beside certain words (``apostrophes.py``): ``man ' s``,
  ``dell ' anno``; in ``5 ' 9``, in the decade ``' 90s``, and after the s of a plural (``dogs ' bowl``), but not after
  ``says``. It also is one between two letters if no later ``'`` closes a quotation: ``сім ' я``.
- Hyphens, underscores and slashes join words: ``t-shirt``, ``and/or``. Two hyphens in a row are a dash.
- Numbers: ``3.5``, ``10:30``, ``3,000`` (a comma before exactly three digits), ``50%``, ``$5``, ``#1``, ``10–20``.
- Full stops inside abbreviations and addresses: ``u.s.``, ``p.m.``, ``www.example.com``.
- Chinese and Japanese characters and their punctuation have no spaces between them.
- All other marks (``& + * = @``) keep their spaces.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from captioner.text.apostrophes import introduces, is_contraction, is_cut_off, is_elision

LOOK_AHEAD = 2  # words that must be known after a mark
_BOTH, _LEFT, _RIGHT, _APART = (True, True), (True, False), (False, True), (False, False)

_CLOSING = frozenset(")]}»”…;!?")
_OPENING = frozenset("([{«“‘„‚¿¡")
_LOW = {"“": "„", "‘": "‚"}  # they close what these open
_QUOTES = frozenset("\"'’")
_ENDINGS = frozenset(("com", "org", "net", "edu", "gov", "co", "uk", "de", "jpg", "png"))  # of addresses and files
_DECADE = re.compile(r"\d0s?")
_UNSPACED = re.compile("[\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff65\U00020000-\U0002fa1f]")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The place of a mark: the word before it, empty at the start of the text, and the words after it that are known.

    ``whole``: They reach the end of the text.
    """

    before: str
    ahead: Sequence[str]
    whole: bool

    @property
    def after(self) -> str:
        return self.ahead[0] if self.ahead else ""

    @property
    def then(self) -> str:
        return self.ahead[1] if len(self.ahead) > 1 else ""

    @property
    def in_number(self) -> bool:
        return self.before[-1:].isdecimal() and self.after[:1].isdecimal()

    @property
    def in_word(self) -> bool:
        return self.before[-1:].isalnum() and self.after[:1].isalnum()

    def paired(self, mark: str) -> bool | None:
        """Return whether a later ``mark`` may close a quotation that begins here; None if more words must be known."""
        for place, (word, before) in enumerate(zip(self.ahead[1:], self.ahead, strict=False), start=2):
            if word == mark:
                after = self.ahead[place] if place < len(self.ahead) else ""
                if not after and not self.whole:
                    return None
                letter = place == 2 and len(before) == 1  # ' c ' in gold
                inside = after[:1].isalnum() and (is_contraction(before, after) or is_elision(before, after))
                if letter or not inside:
                    return True
        return False if self.whole else None


class _Spaces:
    """The rules, applied to the words of a text from left to right."""

    def __init__(self) -> None:
        self.earlier = ""  # the word before the word before
        self.before = ""
        self.glued = False  # the word before has no space after it
        self.open: set[str] = set()  # quotes

    def precedes(self, word: str, ahead: Sequence[str], *, whole: bool) -> bool | None:
        """Return whether a space comes before ``word``, the next word of the text; None if more words must be known.

        ``ahead`` holds the words after it that are known, ``whole`` that they are all.
        """
        place = _Place(before=self.before, ahead=ahead, whole=whole)
        sides = self._sides(word, place) if len(word) == 1 else _APART
        if sides is None:
            return None
        left, right = sides
        unspaced = bool(_UNSPACED.match(self.before[-1:]) and _UNSPACED.match(word[:1]))
        space = not (left or self.glued or unspaced)
        self.earlier, self.before, self.glued = self.before, word, right
        return space

    def _sides(self, mark: str, at: _Place) -> tuple[bool, bool] | None:
        """Return whether ``mark`` joins the word before it, and the word after it; None as in ``precedes``."""
        if mark.isalnum():
            return _APART
        if mark in _QUOTES:
            return self._quote(mark, at)
        if mark in _CLOSING:
            return _LEFT
        if mark in _OPENING:
            return self._opening(mark)
        rule = _RULES.get(mark)
        return rule(at) if rule else _APART

    def _opening(self, mark: str) -> tuple[bool, bool]:
        if (low := _LOW.get(mark)) in self.open:
            self.open.remove(str(low))
            return _LEFT
        self.open.add(mark)
        return _RIGHT

    def _quote(self, mark: str, at: _Place) -> tuple[bool, bool] | None:
        if mark != '"' and at.in_word:
            if at.in_number or is_contraction(at.before, at.after):
                return _BOTH
            if is_elision(at.before, at.after):
                alone = self.earlier == mark  # between two marks: ' c ' as well as ' l ' eau '
                more = at.paired(mark) if alone and mark in self.open else not alone
                if more is not False:
                    return _BOTH if more else None
        if mark in self.open:
            self.open.remove(mark)
            return _LEFT
        if mark == "’" and "‘" in self.open:
            self.open.remove("‘")
            return _LEFT
        if mark != '"' and _DECADE.fullmatch(at.after):
            return _RIGHT
        cut = at.after[:1].isalnum() and is_cut_off(at.before) and at.then not in _QUOTES
        if not at.after or (mark != '"' and cut):
            return _LEFT
        if mark == "’":
            return _BOTH if at.in_word else _LEFT
        if mark == "'" and at.in_word and at.after[:1].isalpha() and not introduces(at.before):
            paired = at.paired(mark)
            if not paired:
                single = _LEFT if at.before[-1:].isdecimal() else _BOTH  # 6' tall
                return None if paired is None else single
        self.open.add(mark)
        return _RIGHT


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

    A piece belongs to a new word if it begins with a space. Each comes once ``LOOK_AHEAD`` further words are complete,
    but a ``'`` that may be an apostrophe or open a quotation only with the one that closes it, or at the end.
    """
    spaces = _Spaces()
    waiting: deque[list[bytes]] = deque()

    def known(*, whole: bool) -> Iterator[bytes]:
        while len(waiting) > (0 if whole else LOOK_AHEAD):
            word, *ahead = map(_text, waiting)
            space = spaces.precedes(word, ahead, whole=whole)
            if space is None:
                return
            group = waiting.popleft()
            yield from group if space else [group[0].removeprefix(b" "), *group[1:]]

    for piece in pieces:
        if waiting and piece[:1] != b" ":
            waiting[-1].append(piece)
            continue
        yield from known(whole=False)
        waiting.append([piece])
    yield from known(whole=True)


def _text(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace").strip()
