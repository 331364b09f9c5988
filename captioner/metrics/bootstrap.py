"""Bootstrap intervals of scores over images (Efron and Tibshirani 1993, chapter 13).

Images are drawn with replacement from a fixed random seed; the middle 95 % of the scores are the interval. Two systems
are compared on the same draws (Koehn 2004, Statistical significance tests for machine translation evaluation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from captioner.errors import DataError
from captioner.metrics.ngrams import Floats
from captioner.metrics.statistic import Statistic

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The lower and upper end of the middle 95 %."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference between two systems, second minus first."""

    value: float
    interval: Interval
    p: float
    """Two-sided: 2 (k + 1) / (draws + 1), at most 1, where k draws reverse the order or tie (Davison and Hinkley 1997,
    chapter 4, on the added ones). So it cannot be below 2 / (draws + 1)."""


def intervals(metrics: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
    """Return the 95 % percentile interval of every metric of the same images, all over the same draws."""
    return {name: _middle(scores) for name, scores in _scores(metrics, resamples, seed).items()}


def paired_differences(
    first: Mapping[str, Statistic], second: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Difference]:
    """Return ``second`` minus ``first`` in every metric, for the same images in the same order."""
    if len({len(statistic.values) for statistic in (*first.values(), *second.values())}) > 1:
        raise DataError("two systems must be compared on the same images; give a caption of each system for each image")
    before, after = _scores(first, resamples, seed), _scores(second, resamples, seed)
    differences: dict[str, Difference] = {}
    for name in (name for name in first if name in second):
        gaps = after[name] - before[name]
        behind = min((gaps <= 0).sum(), (gaps >= 0).sum())
        differences[name] = Difference(
            value=second[name].value - first[name].value,
            interval=_middle(gaps),
            p=float(min(1.0, 2 * (behind + 1) / (len(gaps) + 1))),
        )
    return differences


def draws(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """Yield blocks (R, N) of how often each image is drawn; blocks bound the memory for 40,000 images."""
    chance = np.random.default_rng(seed)
    block = max(1, min(resamples, 4_000_000 // max(images, 1)))
    for begin in range(0, resamples, block):
        rows = min(block, resamples - begin)
        chosen = chance.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _scores(metrics: Mapping[str, Statistic], resamples: int, seed: int) -> dict[str, Floats]:
    """Return the score of every metric in every draw."""
    if not metrics:
        return {}
    columns = np.concatenate([statistic.values for statistic in metrics.values()], axis=1)
    sums = np.concatenate([drawn @ columns for drawn in draws(len(columns), resamples, seed)])  # (R, all k)
    scores: dict[str, Floats] = {}
    begin = 0
    for name, statistic in metrics.items():
        end = begin + statistic.values.shape[1]
        scores[name] = statistic.score(sums[:, begin:end])
        begin = end
    return scores


def _middle(scores: Floats) -> Interval:
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))
