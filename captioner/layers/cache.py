"""Keys and values of past tokens, kept between decoding steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class LayerCache:
    """Preallocated keys and values of one layer, each (N, H, capacity, Dh); the first ``length`` places are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store ``k``, ``v`` (N, H, T, Dh) behind the past and return past and present, (N, H, length + T, Dh)."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@dataclass
class DecoderCache:
    """One ``LayerCache`` per decoder block."""

    layers: list[LayerCache]

    @property
    def length(self) -> int:
        """Tokens stored so far."""
        return self.layers[0].length

    def select(self, rows: Tensor) -> None:
        """Keep the given rows (N',) of the batch, in that order: beams that survive, images that go on."""
        for layer in self.layers:
            layer.keys = layer.keys.index_select(0, rows)
            layer.values = layer.values.index_select(0, rows)


def empty_cache(rows: int, capacity: int, shape: tuple[int, int, int], like: Tensor) -> DecoderCache:
    """A cache for ``rows`` sequences of at most ``capacity`` tokens; ``shape`` is (layers, H, Dh)."""
    layers, heads, head_width = shape

    def room() -> Tensor:
        return torch.empty(rows, heads, capacity, head_width, dtype=like.dtype, device=like.device)

    return DecoderCache([LayerCache(room(), room()) for _ in range(layers)])
