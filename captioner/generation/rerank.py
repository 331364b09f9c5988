"""Reranking of an image's candidates: by score, by consensus, or by the matching head.

Every criterion is a list of numbers, one per candidate, higher is better; ``ordered`` sorts by them.
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
"""The value of a caption (first, in words) if another one (second) is true."""


def rerank(candidates: Sequence[Hypothesis], config: GenerationConfig, tokenizer: CaptionTokenizer) -> list[Hypothesis]:
    """Sort the candidates of one image by ``config.rerank``, best first."""
    if config.rerank == "score" or not candidates:
        return ordered(candidates, [h.score for h in candidates])
    words = splitter(tokenizer.config.words)
    captions = [words(tokenizer.decode(h.tokens)) for h in candidates]
    return ordered(
        candidates,
        consensus(
            captions, candidate_probabilities(candidates, drawn=config.sampling is not None), caption_similarity()
        ),
    )


def ordered(candidates: Sequence[Hypothesis], values: Sequence[float]) -> list[Hypothesis]:
    """Sort candidates by ``values``, highest first; ties by their scores, then in the original order."""
    pairs = sorted(zip(values, candidates, strict=True), key=lambda pair: (-pair[0], -pair[1].score))
    return [candidate for _, candidate in pairs]


def candidate_probabilities(candidates: Sequence[Hypothesis], *, drawn: bool) -> list[float]:
    """Return a weight per candidate, its probability of being the true caption; the weights sum to 1.

    Sampled (``drawn``) captions already occur as often as they are probable, so each sample has the same weight. A
    search returns each caption once, so its captions are weighted by probability.
    """
    if drawn:
        return [1 / len(candidates)] * len(candidates)
    best = max(h.log_prob for h in candidates)
    shares = [math.exp(h.log_prob - best) for h in candidates]
    return [share / sum(shares) for share in shares]


def consensus(captions: Sequence[Sequence[str]], weights: Sequence[float], utility: Utility) -> list[float]:
    """Return the expected utility of each caption, if caption j is true with probability ``weights[j]``.

    The maximum is the minimum Bayes risk choice (Kumar and Byrne 2004, HLT-NAACL, eq. 1; Eikema and Aziz 2020, COLING,
    for samples).
    """
    return [
        math.fsum(weight * utility(ours, theirs) for theirs, weight in zip(captions, weights, strict=True))
        for ours in captions
    ]


def caption_similarity() -> Utility:
    """Return CIDEr-D with equal word weights as utility: common n-grams, 0 to 1000.

    A caption must not depend on the other images, so document frequencies could only come from the training captions.
    With a table of these, and with sentence BLEU, the choices scored the same on held-out photos.
    """
    scorer = CiderD(DocumentFrequencies(images=2, counts={}))  # no counts: every idf is log 2, which cancels out
    return lambda ours, theirs: scorer.score_vectors(ours, [scorer.vector(theirs)])
