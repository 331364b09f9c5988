"""How a phrase may be spelt in tokens: in any case, cut anywhere, even inside a character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_WHITESPACE = re.compile(r"\s+")


def folded(text: bytes) -> str:
    """``text`` without regard to case and to what kind of space stands in it; parts of characters stay apart."""
    return _WHITESPACE.sub(" ", text.decode(errors="surrogateescape").casefold())


def one_word(left: str, right: str) -> bool:
    """Whether a word goes on from the character ``left`` to ``right``; scripts without spaces have words of one."""
    return _in_word(left) and _in_word(right)


def _in_word(char: str) -> bool:
    letter = char.isalnum() or (char != "" and unicodedata.category(char)[0] == "M")
    return letter and unicodedata.east_asian_width(char) not in "WF"


@dataclass(frozen=True)
class Spelling:
    """Which tokens complete a phrase.

    ``anywhere``: those that hold all of it behind the end of another word. ``endings``: after text that ends like this
    where a word may begin, those that hold the rest. ``first`` is the phrase's first character.
    """

    first: str
    anywhere: frozenset[int]
    endings: Mapping[str, frozenset[int]]

    def completing(self, text: str) -> set[int]:
        """The tokens that complete the phrase after ``text``, which is ``folded``."""
        tokens = set(self.anywhere)
        for before, rest in self.endings.items():
            if text.endswith(before) and not one_word(text[: len(text) - len(before)][-1:], self.first):
                tokens |= rest
        return tokens


def spellings(phrases: Iterable[str], pieces: Sequence[bytes]) -> list[Spelling]:
    """Of each phrase, in tokens that stand for ``pieces`` of UTF-8."""
    plain = [" ".join(phrase.split()) for phrase in phrases]
    divisions = [_divisions(phrase) | _divisions(phrase.casefold()) for phrase in plain]
    whole = {folded(phrase.encode()) for phrase in plain}
    opening: dict[str, set[int]] = {rest: set() for pairs in divisions for _, rest in pairs}
    inside: dict[str, set[int]] = {phrase: set() for phrase in whole}
    for token, piece in enumerate(map(folded, pieces)):
        edges = [place for place in range(1, len(piece)) if not one_word(piece[place - 1], piece[place])]
        for end in [*edges, len(piece)] if piece else []:
            if piece[:end] in opening:
                opening[piece[:end]].add(token)
            for start in edges:
                if piece[start:end] in inside:
                    inside[piece[start:end]].add(token)
    found = []
    for phrase, pairs in zip(plain, divisions, strict=True):
        endings: dict[str, set[int]] = {}
        for before, rest in pairs:
            if opening[rest]:
                endings.setdefault(before, set()).update(opening[rest])
        all_of_it = folded(phrase.encode())
        frozen = {before: frozenset(tokens) for before, tokens in endings.items()}
        found.append(Spelling(all_of_it[0], frozenset(inside[all_of_it]), frozen))
    return found


def _divisions(phrase: str) -> set[tuple[str, str]]:
    """Every way to divide a phrase into what has been said and a rest that one token says."""
    divisions = set()
    for place, char in enumerate(phrase):
        said, rest = phrase[:place].encode(), phrase[place + 1 :].encode()
        for form in {char, char.lower(), char.upper()}:  # only whole characters can be folded
            written = form.encode()
            for cut in range(len(written)):
                divisions.add((folded(said + written[:cut]), folded(written[cut:] + rest)))
        if char == " ":
            divisions.add((folded(said + b" "), folded(b" " + rest)))
    return divisions
