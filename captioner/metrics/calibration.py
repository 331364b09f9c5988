"""Whether probabilities mean what they say: calibration error, its repair, and agreement of two rankings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captioner.config import Calibration
from captioner.errors import DataError

Floats = NDArray[np.float64]


def calibration_error(probabilities: Sequence[float], outcomes: Sequence[bool], *, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), 0 to 100.

    It is the mean gap between how probable something was called and how often it happened, in ``bins`` of equal width.
    """
    p, y = _pairs(probabilities, outcomes)
    places = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(places, weights=p - y, minlength=bins)
    return float(100 * np.abs(gaps).sum() / len(p))


def fit_calibration(probabilities: Sequence[float], outcomes: Sequence[bool]) -> Calibration:
    """The line through the log-odds that makes ``outcomes`` likeliest (Platt 1999), by Newton's method.

    Where one probability parts all that happened from all that did not, ever steeper lines are ever likelier; fifty
    steps are taken then. Raises ``DataError`` where all outcomes are alike: no line is the best one then either.
    """
    p, y = _pairs(probabilities, outcomes)
    if y.min() == y.max():
        raise DataError("a calibration needs tokens that were right and tokens that were wrong; give more images")
    p = np.clip(p, 1e-12, 1 - 1e-7)
    inputs = np.stack([np.log(p) - np.log1p(-p), np.ones_like(p)], axis=1)  # (P, 2)
    line = np.array([1.0, 0.0])
    for _ in range(50):
        found = 1 / (1 + np.exp(-np.clip(inputs @ line, -40, 40)))
        gradient = inputs.T @ (found - y)
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = _unlikeliness(inputs @ line, y)
        while _unlikeliness(inputs @ (line - step), y) > before and np.abs(step).max() > 1e-10:
            step = step / 2  # a whole step from far away would jump over the best line, each time further
        line = line - step
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(slope=float(line[0]), offset=float(line[1]))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rho, -1 to 1; equal values share the mean of their ranks. 0 where one of them never changes."""
    a, b = _ranks(np.asarray(first, dtype=np.float64)), _ranks(np.asarray(second, dtype=np.float64))
    if len(a) != len(b) or not len(a):
        raise DataError(f"two rankings of the same things are needed, not {len(a)} and {len(b)} values")
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm else 0.0


def _unlikeliness(odds: Floats, outcomes: Floats) -> float:
    """-log p of ``outcomes`` whose log-odds these are."""
    return float((np.logaddexp(0, odds) - outcomes * odds).sum())


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def _pairs(probabilities: Sequence[float], outcomes: Sequence[bool]) -> tuple[Floats, Floats]:
    if len(probabilities) != len(outcomes) or not len(probabilities):
        raise DataError(f"{len(probabilities)} probabilities of {len(outcomes)} outcomes; give one for each")
    return np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
