"""Quantized weights: int8 with a scale per row, and 4 bits with a scale per group of a row's columns."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 32  # columns that share a scale in 4 bits, which take 4.5 bits each
LEAST_SCALE = 2.0**-24  # the smallest number of fp16 above 0
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # scales to try, as shares of the one that reaches the largest value


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``weight`` (out, in) as int8 and the scale (out,) of each row; symmetric, the largest value is 127."""
    scale = weight.float().abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * 127) / 127
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def quantized_in_groups(weight: Tensor, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """Return ``weight`` (out, in) as levels from -8 to 7, int8, and the scales (out, in / group) in fp16.

    Of several scales each group takes the one of the smallest squared error: that which reaches its largest value at
    level 7 or -8, or a smaller one, which rounds most values more finely and cuts the largest. The error is therefore
    at most that of plain rounding to the nearest of 15 levels.
    """
    grouped = weight.float().unflatten(1, (-1, group))  # (out, groups, group)
    largest = grouped.abs().amax(-1)  # (out, groups)
    signed = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))[..., 0]  # (out, groups)
    best_levels, best_scale = torch.zeros_like(grouped), torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for full in (largest / 7, signed / -8):
        for share in _SHRUNK:
            scale = (full * share).half().float()
            scale = torch.where(scale == 0, LEAST_SCALE, scale)
            levels = (grouped / scale[..., None]).round().clamp(-8, 7)
            error = (levels * scale[..., None] - grouped).square().sum(-1)  # (out, groups)
            better = error < least
            least = torch.where(better, error, least)
            best_scale = torch.where(better, scale, best_scale)
            best_levels = torch.where(better[..., None], levels, best_levels)
    return best_levels.flatten(1).to(torch.int8), best_scale.half()


def dequantized(levels: Tensor, scale: Tensor) -> Tensor:
    """Return the weights (out, in), fp32, of ``levels`` (out, in) with a scale per row, (out,), or per group."""
    if scale.ndim == 1:
        return levels.float() * scale.float()[:, None]
    grouped = levels.float().unflatten(1, (scale.shape[1], -1))  # (out, groups, group)
    return (grouped * scale.float()[..., None]).flatten(1)


def nibbles(levels: Tensor) -> Tensor:
    """Return ``levels`` (out, in) from -8 to 7 as bytes (out, in / 2), the even column in the lower half."""
    shifted = (levels + 8).to(torch.uint8)
    return shifted[:, ::2] | (shifted[:, 1::2] << 4)


def of_nibbles(packed: Tensor) -> Tensor:
    """Return the levels (out, in) from -8 to 7, int8, that ``nibbles`` packed."""
    both = torch.stack((packed & 15, packed >> 4), dim=-1)  # (out, in / 2, 2)
    return both.flatten(1).to(torch.int8) - 8
