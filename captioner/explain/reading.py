"""The attention behind a caption: arrays with one row per word, and the raw weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.captioning.labels import Label
from captioner.data.transforms import View

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class LayerReads:
    """The image attention of one decoder layer for T tokens, with H heads over S = prefix + h * w patches.

    The layer's weights are ``gate * global_weights + (1 - gate) * local_weights``. Fields that a layer lacks are None.
    """

    global_weights: Array | None  # (H, T, S), each row sums to 1
    local_weights: Array | None  # (H, T, S), each row sums to 1
    gate: Array | None  # (H, T), the share of the global read
    point: Array | None  # (H, T, 2), centre of the local read: (row, column), 0 to 1
    spread: Array | None  # (H, T), its standard deviation, in sides of the image

    @property
    def weights(self) -> Array:
        """The layer's attention weights after the gate, (H, T, S)."""
        if self.global_weights is None or self.local_weights is None:
            weights = self.local_weights if self.global_weights is None else self.global_weights
            assert weights is not None
            return weights
        assert self.gate is not None
        gate = self.gate[..., None]  # (H, T, 1)
        return gate * self.global_weights + (1 - gate) * self.local_weights


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The image attention of a captioner for each of the W words of a caption, on an (h, w) grid of patches.

    A word's attention is the one that predicted it, at the token before it. Maps are means over layers and heads (why:
    ``docs/explain.md``) and over the tokens of a word; each sums to 1 over the grid. For a model with only global
    layers, local maps, gates, centres and spreads are None; with only local layers, ``global_maps`` is None.
    """

    photo: Array  # (height, width, 3) uint8, upright
    view: View  # the part of the photo that the grid covers
    caption: str
    words: tuple[str, ...]
    probabilities: Array  # (W,) of each word given the words before it: the product over its tokens, 0 to 1
    maps: Array  # (W, h, w) global and local attention, mixed by the gates
    global_maps: Array | None  # (W, h, w)
    local_maps: Array | None  # (W, h, w)
    gates: Array | None  # (W,) the share of the global read, 0 to 1
    centres: Array | None  # (W, 2) mean of the centres of the local reads: (row, column), 0 to 1
    spreads: Array | None  # (W,) standard deviation of the mixture of their Gaussians, per axis, in sides of the image
    off_grid: Array  # (W,) share of attention to tokens off the grid (labels, a ViT's CLS), in no map, 0 to 1
    entropies: Array  # (W,) of ``maps``, in bits: 0 is one patch, log2(h * w) all patches equally
    tokens: tuple[int, ...]  # T ids
    spans: tuple[tuple[int, int], ...]  # (start, end) of each word in ``tokens``
    layers: tuple[LayerReads, ...]  # the raw weights
    labels: tuple[Label, ...] = ()  # of the photo, by the labeller, most probable first

    @property
    def grid(self) -> tuple[int, int]:
        """The grid (h, w)."""
        return int(self.maps.shape[1]), int(self.maps.shape[2])
