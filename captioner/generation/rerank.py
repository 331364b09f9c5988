"""Which of an image's candidates is its caption: the one of the best score, the one most like all the others, or the
one that is most probably true of the image.

Any judge is a list of numbers, one per candidate, higher is better; ``ordered`` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from captioner.config import GenerationConfig
from captioner.generation.hypothesis import Hypothesis
from captioner.metrics.cider import CiderD, DocumentFrequencies
from captioner.metrics.words import splitter
from captioner.text import CaptionTokenizer

Utility = Callable[[Sequence[str], Sequence[str]], float]
"""How good a caption (first, in words) is where another one (second) is true."""


def rerank(candidates: Sequence[Hypothesis], config: GenerationConfig, tokenizer: CaptionTokenizer) -> list[Hypothesis]:
    """The candidates of one image as ``config.rerank`` orders them, best first."""
    if config.rerank == "score" or not candidates:
        return ordered(candidates, [h.score for h in candidates])
    words = splitter(tokenizer.config.words)
    captions = [words(tokenizer.decode(h.tokens)) for h in candidates]
    return ordered(candidates, consensus(captions, beliefs(candidates, drawn=config.sampling is not None), likeness()))


def ordered(candidates: Sequence[Hypothesis], values: Sequence[float]) -> list[Hypothesis]:
    """By ``values``, the highest first; among equals by their own scores, and then as they came."""
    pairs = sorted(zip(values, candidates, strict=True), key=lambda pair: (-pair[0], -pair[1].score))
    return [candidate for _, candidate in pairs]


def beliefs(candidates: Sequence[Hypothesis], *, drawn: bool) -> list[float]:
    """How much each candidate counts as what the image may show; they sum to 1.

    Captions ``drawn`` from the model are as frequent as they are probable, so each draw counts once, and a caption
    drawn twice counts twice; weights by probability would count it again. Captions that a search found are each there
    once: they count by their probability.
    """
    if drawn:
        return [1 / len(candidates)] * len(candidates)
    best = max(h.log_prob for h in candidates)
    shares = [math.exp(h.log_prob - best) for h in candidates]
    return [share / sum(shares) for share in shares]


def consensus(captions: Sequence[Sequence[str]], weights: Sequence[float], utility: Utility) -> list[float]:
    """The expected utility of each caption where caption j is true with probability ``weights[j]``, itself included.

    Its greatest is the choice of minimum Bayes risk (Kumar and Byrne 2004, HLT-NAACL, eq. 1; Eikema and Aziz 2020,
    COLING, for draws).
    """
    return [
        math.fsum(weight * utility(ours, theirs) for theirs, weight in zip(captions, weights, strict=True))
        for ours in captions
    ]


def likeness() -> Utility:
    """CIDEr-D with all words of one weight: n-grams in common, 0 to 1000.

    A caption must not depend on the images beside its own, so document frequencies could only come from the training
    captions. With a table of these, and with sentence BLEU, the choices scored the same on held-out photos.
    """
    scorer = CiderD(DocumentFrequencies(images=2, counts={}))  # nothing counted: every idf is log 2, which cancels out
    return lambda ours, theirs: scorer.score_vectors(ours, [scorer.vector(theirs)])
