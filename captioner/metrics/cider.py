"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726, section 8), equal to the COCO tools."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from captioner.errors import DataError
from captioner.metrics.checks import Caption, check_corpus, check_references
from captioner.metrics.ngrams import ORDERS, Floats, Row, matched
from captioner.metrics.statistic import divided

SIGMA = 6.0  # width of the length penalty, in words
SCALE = 1000.0  # the paper's factor 10, on 0 to 100

Ngram: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DocumentFrequencies:
    """The document frequencies of n-grams.

    They are separate from the scorer because a self-critical reward takes them from the training split (Rennie et al.
    2017), an evaluation from its own references.
    """

    images: int  # total number of images
    counts: Mapping[Ngram, int] = field(repr=False)  # images with the n-gram in any reference

    @classmethod
    def of(cls, references: Sequence[Sequence[Caption]]) -> DocumentFrequencies:
        """Count over a corpus: one group of references per image. Raises ``DataError`` if it is empty."""
        if not references:
            raise DataError("there are no images to count words in; give the references of at least one image")
        check_references(references)
        counts: Counter[Ngram] = Counter()
        for group in references:
            counts.update({ngram for reference in group for ngram in _ngrams(reference)})
        return cls(images=len(references), counts=counts)

    def idf(self, ngram: Ngram) -> float:
        """Return log(images / images with the n-gram); an unseen n-gram counts as seen once."""
        return math.log(self.images) - math.log(max(1, self.counts.get(ngram, 0)))


@dataclass(frozen=True, kw_only=True)
class CaptionVector:
    """The tf-idf vector of a caption."""

    weights: Mapping[Ngram, float]
    norms: tuple[float, ...]  # norm of each order
    length: int  # length in bigrams, as CIDEr-D counts it


@dataclass(frozen=True, kw_only=True)
class CiderScore:
    """CIDEr-D, where 100 is the COCO tools' 1.0; an image can reach 1000."""

    mean: float  # over the images
    per_image: tuple[float, ...]


class CiderD:
    """A scorer with fixed document frequencies.

    ::

        scorer = CiderD(DocumentFrequencies.of(training_references))
        references = scorer.vectors(references_of_an_image)  # once
        score = scorer.score_vectors(candidate, references)  # for any number of candidates
    """

    def __init__(self, frequencies: DocumentFrequencies) -> None:
        self.frequencies = frequencies

    def vector(self, caption: Caption) -> CaptionVector:
        """Return the tf-idf vector of one caption."""
        weights = {ngram: count * self.frequencies.idf(ngram) for ngram, count in _ngrams(caption).items()}
        squares = [0.0] * ORDERS
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        return CaptionVector(weights=weights, norms=tuple(map(math.sqrt, squares)), length=max(0, len(caption) - 1))

    def vectors(self, references: Sequence[Caption]) -> tuple[CaptionVector, ...]:
        """Return the vectors of one image's references, for ``score_vectors``."""
        check_references([references])
        return tuple(self.vector(reference) for reference in references)

    def score_vectors(self, candidate: Caption, references: Sequence[CaptionVector]) -> float:
        """Return CIDEr-D of one candidate against the prepared references of its image."""
        vector = self.vector(candidate)
        return SCALE * sum(_similarity(vector, reference) for reference in references) / (ORDERS * len(references))

    def score(self, candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> CiderScore:
        """Return CIDEr-D of one candidate per image.

        Raises ``DataError`` for an empty corpus, lists of different lengths, or an image without references.
        """
        check_corpus(candidates, references)
        scores = tuple(
            self.score_vectors(candidate, self.vectors(group))
            for candidate, group in zip(candidates, references, strict=True)
        )
        return CiderScore(mean=math.fsum(scores) / len(scores), per_image=scores)


def cider_d(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> CiderScore:
    """Return CIDEr-D with the document frequencies of ``references`` themselves, for an evaluation.

    It needs a corpus: with a single image every n-gram has idf 0, and the score is 0.
    """
    check_corpus(candidates, references)
    return CiderD(DocumentFrequencies.of(references)).score(candidates, references)


def cider_d_of(row: Row) -> Floats:
    """Return CIDEr-D of each image, (N,), like ``cider_d`` but vectorised, with the row's document frequencies."""
    references, images = row.references, len(row.candidates)
    table, image, reference = references.table, references.image, references.reference
    keys = references.shelf[0]  # sorted: a gram counts once per image
    first = np.diff(keys, prepend=-1) > 0
    documents = np.bincount(keys[first] % max(1, len(table.order)), minlength=len(table.order))
    idf = math.log(images) - np.log(np.maximum(1, documents))
    weight = table.count * idf[table.gram]
    order = table.order[table.gram]
    squares = np.bincount(table.caption * ORDERS + order, weights=weight**2, minlength=len(table.lengths) * ORDERS)
    norms = np.sqrt(squares).reshape(-1, ORDERS)

    pair, candidate_entry, reference_entry = matched(row)
    products: Floats = np.minimum(weight[candidate_entry], weight[reference_entry]) * weight[reference_entry]
    dots = np.bincount(pair * ORDERS + order[candidate_entry], weights=products, minlength=len(image) * ORDERS)
    candidate = row.candidates[image]
    cosines = divided(dots.reshape(-1, ORDERS), norms[candidate] * norms[reference]).sum(axis=1)
    gaps = np.maximum(0, table.lengths[candidate] - 1) - np.maximum(0, table.lengths[reference] - 1)
    similar = cosines * np.exp(-(gaps.astype(np.float64) ** 2) / (2 * SIGMA**2))
    means = np.bincount(image, weights=similar, minlength=images) / np.bincount(image, minlength=images)
    return SCALE / ORDERS * means


def _ngrams(caption: Caption) -> Counter[Ngram]:
    return Counter(tuple(caption[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(caption) - n + 1))


def _similarity(candidate: CaptionVector, reference: CaptionVector) -> float:
    """Return the sum over n of the clipped cosines, times the length penalty."""
    products = [0.0] * ORDERS
    for ngram, weight in candidate.weights.items():
        other = reference.weights.get(ngram)
        if other is not None:
            products[len(ngram) - 1] += min(weight, other) * other
    cosines = (
        product / (a * b) if a and b else 0.0
        for product, a, b in zip(products, candidate.norms, reference.norms, strict=True)
    )
    return sum(cosines) * math.exp(-((candidate.length - reference.length) ** 2) / (2 * SIGMA**2))
