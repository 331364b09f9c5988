"""Truncated sampling distributions, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence

from captioner.config import SamplingConfig


def truncated(row: Sequence[float], config: SamplingConfig) -> list[float]:
    """Return log-probabilities at the temperature, truncated by each rule in turn; -inf for excluded tokens."""
    p = _normal([value / config.temperature for value in row])
    if config.top_k is not None:
        p = _keep(p, sorted(p, reverse=True)[: config.top_k])
    if config.top_p is not None:
        p = _keep(p, _share(p, [-value for value in p], config.top_p))
    if config.min_p is not None:
        p = _keep(p, [value for value in p if value >= config.min_p * max(p)])
    if config.typical_p is not None:
        surprise = [-math.log(value) if value else math.inf for value in p]
        expected = sum(value * bits for value, bits in zip(p, surprise, strict=True) if value)
        p = _keep(p, _share(p, [abs(bits - expected) for bits in surprise], config.typical_p))
    return [math.log(value) if value else -math.inf for value in p]


def _share(p: Sequence[float], rank: Sequence[float], share: float) -> list[float]:
    """Return the probabilities of the lowest ranks that together reach ``share``."""
    kept: list[float] = []
    for _, value in sorted(zip(rank, p, strict=True)):
        if sum(kept) >= share:
            break
        kept.append(value)
    return kept


def _keep(p: Sequence[float], kept: Sequence[float]) -> list[float]:
    total = sum(value for value in p if value in kept)
    return [value / total if value in kept else 0.0 for value in p]


def _normal(scores: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(scores)) for value in scores]
    return [weight / sum(weights) for weight in weights]
