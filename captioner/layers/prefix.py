"""Prefix tuning: learned keys and values that stand before the words of every caption."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Prefix(nn.Module):
    """P keys and values of one layer's self-attention (Li and Liang 2021, arXiv 2101.00190, eq. 3).

    They are seen by every word and have no place among them: positions count the words alone, and a local window never
    leaves them behind. They are learned directly, and begin small and random: sixteen of them cost the shipped model
    0.15 nats a token before any training. The paper would rather begin with the activations of real words; those of
    captions cost it 1.7, being read as a caption that is already said.
    """

    def __init__(self, heads: int, length: int, head_width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(heads, length, head_width) * 0.02)  # (H, P, Dh)
        self.values = nn.Parameter(torch.randn(heads, length, head_width) * 0.02)

    def of(self, images: int) -> tuple[Tensor, Tensor]:
        """Keys and values for B images, each (B, H, P, Dh), not copied."""
        return self.keys.expand(images, -1, -1, -1), self.values.expand(images, -1, -1, -1)

    def before(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """``k``, ``v`` (N, H, T, Dh) with the prefix in front: (N, H, P + T, Dh)."""
        keys, values = self.of(k.shape[0])
        return torch.cat([keys.to(k.dtype), k], dim=2), torch.cat([values.to(v.dtype), v], dim=2)
