"""Attention word by word and patch by patch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend from (B, H, Q, Dh) queries to (B, H, S, Dh) keys.

    ``mask`` (Q, S): True where visible, or added to the logits.
    """
    out = torch.zeros_like(q)
    for image, head, query in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        weights = []
        for key in range(k.shape[2]):
            logit = float(q[image, head, query] @ k[image, head, key]) / math.sqrt(q.shape[-1])
            if mask is None:
                weights.append(math.exp(logit))
            elif mask.dtype == torch.bool:
                weights.append(math.exp(logit) if mask[query, key] else 0.0)
            else:
                weights.append(math.exp(logit + float(mask[query, key])))
        for key, weight in enumerate(weights):
            out[image, head, query] += weight / sum(weights) * v[image, head, key]
    return out


def focus_bias(point: Tensor, spread: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Return -d^2 / 2 sigma^2 from ``point`` (B, H, Q, 2) to the centre of every patch.

    Points are (row, column) from 0 to 1.
    """
    h, w = grid
    point, spread = point.detach(), spread.detach()
    bias = torch.zeros(*point.shape[:3], prefix + h * w)
    for place in torch.cartesian_prod(*map(torch.arange, point.shape[:3])).tolist():
        row, column = point[tuple(place)].tolist()
        sigma = float(spread[tuple(place)])
        for patch in range(h * w):
            down = row - (patch // w + 0.5) / h
            right = column - (patch % w + 0.5) / w
            bias[(*place, prefix + patch)] = -(down**2 + right**2) / (2 * sigma**2)
    return bias
