"""Metrics as sums over images, so that any set of images can be scored and resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.ngrams import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistic:
    """A metric as a function of sums over images.

    BLEU adds counts and divides at the end, CIDEr-D adds scores and ones: both have this form, so resampling the rows
    of ``values`` is exact.
    """

    values: Floats  # (N, k), the summands of each of N images
    score: Callable[[Floats], Floats] = field(repr=False)  # from sums (..., k) to metrics (...)
    whole: float | None = None  # the metric over all images, if another program computes it

    @property
    def value(self) -> float:
        """The metric over all images."""
        return float(self.score(self.values.sum(axis=0))) if self.whole is None else self.whole

    @property
    def per_image(self) -> Floats:
        """The metric of each image alone, (N,)."""
        return self.score(self.values)


def mean_of(scores: Sequence[float] | Floats) -> Statistic:
    """Return a metric that is the mean of the images' scores."""
    return ratio_of(scores, np.ones(len(scores)))


def ratio_of(above: Sequence[float] | Floats, below: Sequence[float] | Floats, *, scale: float = 1.0) -> Statistic:
    """Return a metric that is a ratio of two sums, times ``scale``; 0 if the lower sum is 0."""
    values = np.stack([np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)], axis=1)
    return Statistic(values=values, score=lambda sums: scale * divided(sums[..., 0], sums[..., 1]))


def averaged(parts: Sequence[Statistic]) -> Statistic:
    """Return the mean of several metrics of the same images, such as one reference against the others."""
    widths = np.cumsum([0, *(part.values.shape[1] for part in parts)])

    def score(sums: Floats) -> Floats:
        scores = [part.score(sums[..., a:b]) for part, a, b in zip(parts, widths[:-1], widths[1:], strict=True)]
        return np.asarray(np.mean(scores, axis=0))

    whole = None if all(part.whole is None for part in parts) else float(np.mean([part.value for part in parts]))
    return Statistic(values=np.concatenate([part.values for part in parts], axis=1), score=score, whole=whole)


def divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """Return the elementwise ratio, 0 where ``below`` is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)
