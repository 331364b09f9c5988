"""Sampling: truncation of the distribution, and random numbers that depend on the image alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.config import SamplingConfig
from captioner.generation.step import to_sum_precision
from captioner.generation.walk import Choose

COLDEST = 1e-30  # lowest temperature by which fp32 can divide


def content_seed(pixels: Tensor, seed: int) -> int:
    """Return a random seed from ``pixels``: a photo gets the same caption in any batch, order and folder."""
    content = pixels.detach().cpu().contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7, key=str(seed).encode()).digest(), "big")


def draw(config: SamplingConfig, seeds: Sequence[int], count: int) -> Choose:
    """Return a function that samples ``count`` tokens per image by inverse transform, with one seed per image."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def choose(log_probs: Tensor, images: Tensor) -> Tensor:
        numbers = [
            torch.rand(count, 1, generator=generators[image], dtype=torch.float64, device="cpu")
            for image in images.tolist()
        ]
        sums = to_sum_precision(truncated(log_probs, config)).exp().cumsum(dim=-1)  # (B, 1 or K, V)
        uniform = torch.stack(numbers).to(sums)  # (B, K, 1)
        sums = sums.expand(-1, count, -1).contiguous()
        drawn = torch.searchsorted(sums, uniform * sums[..., -1:], right=True).squeeze(-1)  # (B, K)
        return drawn.clamp(max=sums.shape[-1] - 1)  # in case the rules forbid every token

    return choose


def truncated(log_probs: Tensor, config: SamplingConfig) -> Tensor:
    """Return log-probabilities (..., V) at a temperature, truncated by top k, top p, min p and typical p.

    Each step renormalises what the previous one kept, and keeps at least one token if there is one. typical p is
    locally typical sampling (Meister et al. 2022).
    """
    best = log_probs.max(dim=-1, keepdim=True).values
    scores = _normal((log_probs - best.nan_to_num(neginf=0.0)) / max(config.temperature, COLDEST))
    if config.top_k and config.top_k < scores.shape[-1]:
        least = scores.topk(config.top_k, dim=-1).values[..., -1:]
        scores = _only(scores, scores >= least)
    if config.top_p is not None and config.top_p < 1:
        scores = _only(scores, _nucleus(scores, -scores, config.top_p))
    if config.min_p:
        share = torch.tensor(config.min_p, dtype=torch.float32, device=scores.device)
        scores = _only(scores, scores >= scores.max(dim=-1, keepdim=True).values + share.log())
    if config.typical_p is not None and config.typical_p < 1:
        entropy = -(scores.exp() * scores.nan_to_num(neginf=0.0)).sum(dim=-1, keepdim=True)
        scores = _only(scores, _nucleus(scores, (-scores - entropy).abs(), config.typical_p))
    return scores


def _nucleus(scores: Tensor, rank: Tensor, share: float) -> Tensor:
    """Mark the tokens of the lowest ``rank`` that together reach the probability ``share``."""
    order = rank.argsort(dim=-1, stable=True)
    probabilities = scores.gather(-1, order).exp()
    before = probabilities.cumsum(dim=-1) - probabilities  # of all tokens with a lower rank
    kept = before < share
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _only(scores: Tensor, kept: Tensor) -> Tensor:
    return _normal(scores.masked_fill(~kept, -torch.inf))


def _normal(scores: Tensor) -> Tensor:
    """Normalise ``scores`` to log-probabilities; rows of -inf stay -inf."""
    return scores - scores.logsumexp(dim=-1, keepdim=True).nan_to_num(neginf=0.0)
