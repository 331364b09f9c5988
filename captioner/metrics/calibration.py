"""Calibration of probabilities: expected calibration error, Platt scaling, and rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captioner.config import Calibration
from captioner.errors import DataError

Floats = NDArray[np.float64]


def calibration_error(probabilities: Sequence[float], outcomes: Sequence[bool], *, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), 0 to 100.

    It is the mean gap between predicted probability and observed frequency, in ``bins`` of equal width.
    """
    p, y = _pairs(probabilities, outcomes)
    places = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(places, weights=p - y, minlength=bins)
    return float(100 * np.abs(gaps).sum() / len(p))


def fit_calibration(probabilities: Sequence[float], outcomes: Sequence[bool]) -> Calibration:
    """Return the line in log-odds with the maximum likelihood of ``outcomes`` (Platt 1999), by Newton's method.

    If a threshold separates the outcomes perfectly, steeper lines always have a higher likelihood, and fitting stops
    after fifty steps. Raises ``DataError`` if all outcomes are equal, since no line is the best one then.
    """
    p, y = _pairs(probabilities, outcomes)
    if y.min() == y.max():
        raise DataError("a calibration needs tokens that were right and tokens that were wrong; give more images")
    p = np.clip(p, 1e-12, 1 - 1e-7)
    inputs = np.stack([np.log(p) - np.log1p(-p), np.ones_like(p)], axis=1)  # (P, 2)
    line = np.array([1.0, 0.0])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-np.clip(inputs @ line, -40, 40)))
        gradient = inputs.T @ (predicted - y)
        curvature = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = _negative_log_likelihood(inputs @ line, y)
        while _negative_log_likelihood(inputs @ (line - step), y) > before and np.abs(step).max() > 1e-10:
            step = step / 2  # a whole step from far away would overshoot, each time further
        line = line - step
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(slope=float(line[0]), offset=float(line[1]))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rho, -1 to 1; ties share the mean of their ranks. 0 if one ranking is constant."""
    a, b = _ranks(np.asarray(first, dtype=np.float64)), _ranks(np.asarray(second, dtype=np.float64))
    if len(a) != len(b) or not len(a):
        raise DataError(f"two rankings must have the same length above 0, not {len(a)} and {len(b)} values")
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm else 0.0


def _negative_log_likelihood(odds: Floats, outcomes: Floats) -> float:
    """Return -log p of ``outcomes`` under their log-odds."""
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
