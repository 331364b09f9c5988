"""How far a score could be off, had other images of the same kind been drawn (Efron and Tibshirani 1993, chapter 13).

Images are drawn again with replacement, always the same way; the middle 95 % of the scores are the interval. Two
systems are compared on the same draws (Koehn 2004, Statistical significance tests for machine translation evaluation).
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
    """The lower and the upper end of the middle 95 %."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Second less first, its interval, and ``p``: how often draws turn the order round.

    ``p`` is two-sided: 2 (k + 1) / (draws + 1), at most 1, where k draws have the other one ahead or both level
    (Davison and Hinkley 1997, chapter 4, on the ones). So it cannot be below 2 / (draws + 1).
    """

    value: float
    interval: Interval
    p: float


def intervals(metrics: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
    """The 95 % percentile interval of every metric of the same images, all over the same draws."""
    return {name: _middle(found) for name, found in _scores(metrics, resamples, seed).items()}


def paired_differences(
    first: Mapping[str, Statistic], second: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Difference]:
    """How much higher ``second`` is than ``first`` in every metric, on the same images in the same order."""
    if len({len(statistic.values) for statistic in (*first.values(), *second.values())}) > 1:
        raise DataError("two systems are compared on the same images; give both a caption for each of them")
    ours, theirs = _scores(first, resamples, seed), _scores(second, resamples, seed)
    found: dict[str, Difference] = {}
    for name in (name for name in first if name in second):
        gaps = theirs[name] - ours[name]
        behind = min((gaps <= 0).sum(), (gaps >= 0).sum())
        found[name] = Difference(
            value=second[name].value - first[name].value,
            interval=_middle(gaps),
            p=float(min(1.0, 2 * (behind + 1) / (len(gaps) + 1))),
        )
    return found


def draws(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """How often each image is drawn, (R, N) a block; the blocks keep 40,000 images from filling the memory."""
    chance = np.random.default_rng(seed)
    block = max(1, min(resamples, 4_000_000 // max(images, 1)))
    for begin in range(0, resamples, block):
        rows = min(block, resamples - begin)
        chosen = chance.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _scores(metrics: Mapping[str, Statistic], resamples: int, seed: int) -> dict[str, Floats]:
    """The score of every metric in every draw."""
    if not metrics:
        return {}
    columns = np.concatenate([statistic.values for statistic in metrics.values()], axis=1)
    sums = np.concatenate([drawn @ columns for drawn in draws(len(columns), resamples, seed)])  # (R, all k)
    found: dict[str, Floats] = {}
    begin = 0
    for name, statistic in metrics.items():
        end = begin + statistic.values.shape[1]
        found[name] = statistic.score(sums[:, begin:end])
        begin = end
    return found


def _middle(scores: Floats) -> Interval:
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))
