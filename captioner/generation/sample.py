"""Words drawn by chance: the distribution's likelier part, and draws that depend on the image alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.config import SamplingConfig
from captioner.generation.step import wide
from captioner.generation.walk import Choose

COLDEST = 1e-30  # a temperature that fp32 still divides by


def content_seed(pixels: Tensor, seed: int) -> int:
    """A seed from an image's ``pixels``: the same photo is told the same way in any batch, order and folder."""
    content = pixels.detach().cpu().contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7, key=str(seed).encode()).digest(), "big")


def draw(config: SamplingConfig, seeds: Sequence[int], count: int) -> Choose:
    """A choice of ``count`` tokens for each image, by inverse transform of uniform numbers of its own seed."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def choose(log_probs: Tensor, images: Tensor) -> Tensor:
        numbers = [
            torch.rand(count, 1, generator=generators[image], dtype=torch.float64, device="cpu")
            for image in images.tolist()
        ]
        sums = wide(likelier_part(log_probs, config)).exp().cumsum(dim=-1)  # (B, 1 or K, V)
        uniform = torch.stack(numbers).to(sums)  # (B, K, 1)
        sums = sums.expand(-1, count, -1).contiguous()
        drawn = torch.searchsorted(sums, uniform * sums[..., -1:], right=True).squeeze(-1)  # (B, K)
        return drawn.clamp(max=sums.shape[-1] - 1)  # nothing is left where the rules leave no token

    return choose


def likelier_part(log_probs: Tensor, config: SamplingConfig) -> Tensor:
    """Log-probabilities (..., V) at the temperature of ``config``, -inf where its rules leave a token out.

    Each rule sees what the one before it has left, normalised again. One token is left at least, where there is one.
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
    """Where the tokens of the lowest ``rank`` are that together reach the probability ``share``."""
    order = rank.argsort(dim=-1, stable=True)
    probabilities = scores.gather(-1, order).exp()
    before = probabilities.cumsum(dim=-1) - probabilities  # of the tokens ranked ahead of this one
    kept = before < share
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _only(scores: Tensor, kept: Tensor) -> Tensor:
    return _normal(scores.masked_fill(~kept, -torch.inf))


def _normal(scores: Tensor) -> Tensor:
    """Log-probabilities from ``scores``; all -inf where these are."""
    return scores - scores.logsumexp(dim=-1, keepdim=True).nan_to_num(neginf=0.0)
