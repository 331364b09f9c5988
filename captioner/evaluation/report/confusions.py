"""Which words people agree on and the captions miss, and which words stand there that nobody says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.metrics.checks import Caption

# Words that say nothing of what is seen; short, since a rare one that slips through does little harm.
_FUNCTION_WORDS = """
a an the this that these those some any each another other others one ones it its he him his she her hers they them
their we our you your i my who whom whose which what there here and or but nor so as if than then while when where
of in on at by for from to with without into onto over under up down out off through across along around between
behind beside near next front back top inside outside against during after before about above below is are was were
be being been am do does did has have having had can could will would may not no very just also both all
's 're 've 'm 'd 'll n't -lrb- -rrb-
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
LEAST = 3  # images on which a word must be missed, or said in vain, to be told


@dataclass(frozen=True, kw_only=True)
class Missed:
    """``word``: ``people`` images of which two references or more say it; ``missed`` of these captions do not.

    ``instead``: what they say that no reference of the image does, the most telling first.
    """

    word: str
    people: int
    missed: int
    instead: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class InVain:
    """``word`` stands in ``said`` captions; of ``alone`` of these images no reference says it."""

    word: str
    said: int
    alone: int


def missed_words(
    captions: Sequence[Caption], references: Sequence[Sequence[Caption]], *, most: int = 15
) -> list[Missed]:
    """The words missed on most images. Where an image has one reference, that one is enough."""
    people: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    strange: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {}
    for caption, group in zip(captions, references, strict=True):
        spoken = Counter(word for reference in group for word in set(reference) - FUNCTION_WORDS)
        agreed = {word for word, times in spoken.items() if times >= min(2, len(group))}
        alone = set(caption) - FUNCTION_WORDS - spoken.keys()
        people.update(agreed)
        strange.update(alone)
        for word in agreed - set(caption):
            missed[word] += 1
            together.setdefault(word, Counter()).update(alone)
    found = []
    for word, times in sorted(missed.items(), key=lambda item: (-item[1], item[0]))[:most]:
        if times >= LEAST:
            # Words that come in vain everywhere explain nothing: rank by how much oftener than usual they do here.
            telling = {
                other: count * math.log(count * len(captions) / (times * strange[other]))
                for other, count in together[word].items()
                if count > 1
            }
            best = sorted((value, other) for other, value in telling.items() if value > 0)[::-1][:4]
            instead = tuple((other, together[word][other]) for _, other in best)
            found.append(Missed(word=word, people=people[word], missed=times, instead=instead))
    return found


def words_in_vain(
    captions: Sequence[Caption], references: Sequence[Sequence[Caption]], *, most: int = 15
) -> list[InVain]:
    """The words most often said of images of which no reference says them."""
    said: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for caption, group in zip(captions, references, strict=True):
        words = set(caption) - FUNCTION_WORDS
        said.update(words)
        alone.update(words - {word for reference in group for word in reference})
    ranked = sorted(alone.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [InVain(word=word, said=said[word], alone=times) for word, times in ranked if times >= LEAST]
