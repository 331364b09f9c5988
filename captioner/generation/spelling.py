"""The spellings of a phrase in tokens: in any case, split anywhere, even inside a character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from captioner.config import in_word, one_word
from captioner.text import CaptionTokenizer

_WHITESPACE = re.compile(r"\s+")


def folded(text: bytes) -> str:
    """Decode ``text``, fold its case and normalise whitespace; incomplete characters become surrogates."""
    return _WHITESPACE.sub(" ", text.decode(errors="surrogateescape").casefold())


@dataclass(frozen=True)
class Spelling:
    """The tokens that complete a phrase."""

    first: str  # the phrase's first character
    anywhere: frozenset[int]  # tokens that contain the whole phrase after the end of another word
    endings: Mapping[str, frozenset[int]]  # start of the phrase at the end of the text -> tokens with the rest


class Completions:
    """The phrases that the next token may complete, found by the end of the text instead of one by one."""

    def __init__(self, spellings: Sequence[Spelling]) -> None:
        self.anywhere = [spelling.anywhere for spelling in spellings]
        self._inside = [in_word(spelling.first) for spelling in spellings]
        self._ends: dict[str, list[tuple[int, frozenset[int]]]] = {}
        for number, spelling in enumerate(spellings):
            for before, rest in spelling.endings.items():
                if more := rest - spelling.anywhere:
                    self._ends.setdefault(before, []).append((number, more))
        self._longest = max(map(len, self._ends), default=0)

    def after(self, text: str) -> dict[int, set[int]]:
        """Return the tokens that complete each phrase after the ``folded`` ``text``, besides those of ``anywhere``."""
        found: dict[int, set[int]] = {}
        for length in range(min(self._longest, len(text)) + 1):
            place = len(text) - length
            ends = self._ends.get(text[place:], ())
            inside = bool(ends) and in_word(text[:place][-1:])
            for number, tokens in ends:
                if not (inside and self._inside[number]):
                    found.setdefault(number, set()).update(tokens)
        return found


def spellings(phrases: Iterable[str], pieces: Sequence[bytes]) -> list[Spelling]:
    """Return the spelling of each phrase in tokens whose UTF-8 bytes are ``pieces``."""
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
    result = []
    for phrase, pairs in zip(plain, divisions, strict=True):
        endings: dict[str, set[int]] = {}
        for before, rest in pairs:
            if opening[rest]:
                endings.setdefault(before, set()).update(opening[rest])
        complete = folded(phrase.encode())
        frozen = {before: frozenset(tokens) for before, tokens in endings.items()}
        result.append(Spelling(complete[0], frozenset(inside[complete]), frozen))
    return result


def _divisions(phrase: str) -> set[tuple[str, str]]:
    """Return every division of a phrase into a part already written and a rest in one token."""
    divisions = set()
    for place, char in enumerate(phrase):
        before, rest = phrase[:place].encode(), phrase[place + 1 :].encode()
        for form in {char, char.lower(), char.upper()}:  # only whole characters can be folded
            written = form.encode()
            for cut in range(len(written)):
                divisions.add((folded(before + written[:cut]), folded(written[cut:] + rest)))
        if char == " ":
            divisions.add((folded(before + b" "), folded(b" " + rest)))
    return divisions


@lru_cache(maxsize=64)
def word_ends(tokenizer: CaptionTokenizer) -> tuple[bool, ...]:
    """Mark the tokens (V,) that cannot continue a word: those that begin with a space or punctuation, and the end.

    Hyphens and apostrophes continue a word; a token that begins inside a character may.
    """

    def ends(first: str) -> bool:
        return first not in "-'\u2019" and first.isprintable() and not one_word("a", first)

    firsts = [folded(piece)[:1] for piece in tokenizer.pieces]
    end, joiners = tokenizer.config.eos_id, tokenizer.joiners
    return tuple(token == end or (ends(first) and token not in joiners) for token, first in enumerate(firsts))
