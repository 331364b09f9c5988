"""Statements about people's gender and age in captions, by lists of English words."""

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


def named_kinds(words: Iterable[str]) -> set[str]:
    """Return the kinds in ``WORDS`` that a caption's words name."""
    distinct = set(words)
    return {kind for kind, names in WORDS.items() if distinct & names}


@dataclass(frozen=True, kw_only=True)
class Presumption:
    """Captions that name a person's ``kind``, compared with the references of their images. Shares from 0 to 100."""

    kind: str
    captions: int  # captions that name the kind
    confidence: float  # the mean probability of the words that name it
    agree: float  # share of these captions with a reference that names the kind
    most: float  # share with the kind in at least half of the references
    contradict: float  # share with the kind in no reference and its opposite in at least one

    @property
    def presumed(self) -> float:
        """The share of captions whose references name neither: the model presumes."""
        return max(0.0, 100 - self.agree - self.contradict)  # rounding may pass 100


def presumption(
    kind: str, captions: Sequence[Sequence[tuple[str, float]]], references: Sequence[Sequence[Sequence[str]]]
) -> Presumption:
    """Compare the captions that name ``kind`` with the references.

    ``captions``: the words of each image's caption with their probabilities. ``references``: the words of each image's
    references.
    """
    chances: list[float] = []
    agree = most = contradict = count = 0
    for caption, group in zip(captions, references, strict=True):
        own = [chance for word, chance in caption if word in WORDS[kind]]
        if not own:
            continue
        count += 1
        chances += own
        kinds = [named_kinds(reference) for reference in group]
        agreeing = sum(kind in named for named in kinds)
        agree += agreeing > 0
        most += 2 * agreeing >= len(kinds)
        contradict += agreeing == 0 and any(OPPOSITES[kind] in named for named in kinds)
    share = 100 / max(count, 1)
    return Presumption(
        kind=kind,
        captions=count,
        confidence=100 * sum(chances) / max(len(chances), 1),
        agree=share * agree,
        most=share * most,
        contradict=share * contradict,
    )
