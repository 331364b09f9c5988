"""What captions say of people's gender and age, by lists of English words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LISTS = {
    "male": "man men boy boys guy guys male males gentleman gentlemen father dad son brother he his him",
    "female": "woman women girl girls lady ladies female females mother mom daughter sister she her bride",
    "child": "child children kid kids boy boys girl girls baby babies toddler toddlers infant",
    "adult": "man men woman women guy guys lady ladies gentleman gentlemen adult adults mother father",
    "old": "old older elderly senior",
}
WORDS = {kind: frozenset(names.split()) for kind, names in _LISTS.items()}
OPPOSITES = {"male": "female", "female": "male", "child": "adult", "adult": "child", "old": "child"}


def said(words: Iterable[str]) -> set[str]:
    """Which of the kinds in ``WORDS`` a caption's words name."""
    there = set(words)
    return {kind for kind, names in WORDS.items() if there & names}


@dataclass(frozen=True, kw_only=True)
class Presumption:
    """How captions that say ``kind`` of somebody stand to the references of their images.

    ``agree``: a reference says it too. ``contradict``: none does, and at least one says the opposite alone. The others
    say nothing about it: the model presumes. ``most`` is the share of these captions where at least half of all
    references say it. ``confidence``: the mean chance that the model gives those words. Shares from 0 to 100.
    """

    kind: str
    captions: int
    confidence: float
    agree: float
    most: float
    contradict: float

    @property
    def presumed(self) -> float:
        """The share of captions whose references say nothing about it."""
        return max(0.0, 100 - self.agree - self.contradict)  # rounding may pass 100


def presumption(
    kind: str, captions: Sequence[Sequence[tuple[str, float]]], references: Sequence[Sequence[Sequence[str]]]
) -> Presumption:
    """``captions``: of each image the words with their chances; ``references``: of each image the words of each."""
    chances: list[float] = []
    agree = most = contradict = count = 0
    for caption, of_image in zip(captions, references, strict=True):
        own = [chance for word, chance in caption if word in WORDS[kind]]
        if not own:
            continue
        count += 1
        chances += own
        kinds = [said(reference) for reference in of_image]
        those = sum(kind in found for found in kinds)
        agree += those > 0
        most += 2 * those >= len(kinds)
        contradict += those == 0 and any(OPPOSITES[kind] in found for found in kinds)
    share = 100 / max(count, 1)
    return Presumption(
        kind=kind,
        captions=count,
        confidence=100 * sum(chances) / max(len(chances), 1),
        agree=share * agree,
        most=share * most,
        contradict=share * contradict,
    )
