"""The words that captions miss although people agree on them, and the words without support in any reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.metrics.checks import Caption
from captioner.metrics.function_words import FUNCTION_WORDS

LEAST = 3  # images on which a listed word is missed or unsupported, at least


@dataclass(frozen=True, kw_only=True)
class MissedWord:
    """A word that captions miss."""

    word: str
    people: int  # images with the word in two references or more
    missed: int  # of these, images whose caption lacks the word
    instead: tuple[tuple[str, int], ...]
    """Words of these captions that occur in no reference of the image, with their counts, the most specific first."""


@dataclass(frozen=True, kw_only=True)
class UnsupportedWord:
    """A word of captions without support in a reference."""

    word: str
    used: int  # captions with the word
    alone: int  # images among these without the word in any reference


def missed_words(
    captions: Sequence[Caption], references: Sequence[Sequence[Caption]], *, most: int = 15
) -> list[MissedWord]:
    """Return the words missed on most images; for an image with one reference, one is enough."""
    people: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    unsupported: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {}
    for caption, group in zip(captions, references, strict=True):
        used = Counter(word for reference in group for word in set(reference) - FUNCTION_WORDS)
        agreed = {word for word, times in used.items() if times >= min(2, len(group))}
        alone = set(caption) - FUNCTION_WORDS - used.keys()
        people.update(agreed)
        unsupported.update(alone)
        for word in agreed - set(caption):
            missed[word] += 1
            together.setdefault(word, Counter()).update(alone)
    rows = []
    for word, times in sorted(missed.items(), key=lambda item: (-item[1], item[0]))[:most]:
        if times >= LEAST:
            # Words that are unsupported everywhere explain nothing: rank by their excess over the usual frequency.
            excess = {
                other: count * math.log(count * len(captions) / (times * unsupported[other]))
                for other, count in together[word].items()
                if count > 1
            }
            best = sorted((value, other) for other, value in excess.items() if value > 0)[::-1][:4]
            instead = tuple((other, together[word][other]) for _, other in best)
            rows.append(MissedWord(word=word, people=people[word], missed=times, instead=instead))
    return rows


def unsupported_words(
    captions: Sequence[Caption], references: Sequence[Sequence[Caption]], *, most: int = 15
) -> list[UnsupportedWord]:
    """Return the words that captions most often use without support in a reference."""
    used: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for caption, group in zip(captions, references, strict=True):
        words = set(caption) - FUNCTION_WORDS
        used.update(words)
        alone.update(words - {word for reference in group for word in reference})
    ranked = sorted(alone.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [UnsupportedWord(word=word, used=used[word], alone=times) for word, times in ranked if times >= LEAST]
