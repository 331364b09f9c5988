"""What was read for a caption: arrays, one row per word, and the raw weights behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.data.transforms import View
from captioner.generation.labels import Label

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class LayerReads:
    """Where one decoder layer looked for each of the T tokens, with H heads over S = prefix + h * w patches.

    The layer read ``gate * global_weights + (1 - gate) * local_weights``. What a layer does not have is None.
    """

    global_weights: Array | None  # (H, T, S), each row sums to 1
    local_weights: Array | None  # (H, T, S), each row sums to 1
    gate: Array | None  # (H, T), the share of the global read
    point: Array | None  # (H, T, 2), aim of the local read: (row, column), 0 to 1
    spread: Array | None  # (H, T), its standard deviation, in sides of the image

    @property
    def weights(self) -> Array:
        """What the layer read in fact, (H, T, S)."""
        if self.global_weights is None or self.local_weights is None:
            found = self.local_weights if self.global_weights is None else self.global_weights
            assert found is not None
            return found
        assert self.gate is not None
        gate = self.gate[..., None]  # (H, T, 1)
        return gate * self.global_weights + (1 - gate) * self.local_weights


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where a captioner looked for each of the W words of a caption, on an (h, w) grid of patches.

    A word's read is the one that chose it, made while the word before it was the last. Maps are means over layers and
    heads (why: ``docs/explain.md``) and over the tokens of a word; each sums to 1 over the grid. ``off_grid`` is the
    share of the read that went to tokens without a place (labels, a ViT's CLS) and is in no map. ``labels`` are the
    names that a labeller gives the photo. A model whose layers all read
    globally has no local maps, gates, centres and spreads: these are None, as ``global_maps`` is for all-local ones.
    """

    photo: Array  # (height, width, 3) uint8, upright
    view: View  # which part of the photo the grid covers
    caption: str
    words: tuple[str, ...]
    probabilities: Array  # (W,) of each word after those before it: the product over its tokens, 0 to 1
    maps: Array  # (W, h, w) what was read in fact: global and local as the gates mixed them
    global_maps: Array | None  # (W, h, w)
    local_maps: Array | None  # (W, h, w)
    gates: Array | None  # (W,) the share of the global read, 0 to 1
    centres: Array | None  # (W, 2) mean of the points that the local reads aimed at: (row, column), 0 to 1
    spreads: Array | None  # (W,) standard deviation of all their Gaussians together, per axis, in sides of the image
    off_grid: Array  # (W,) 0 to 1
    entropies: Array  # (W,) of ``maps``, in bits: 0 is one patch, log2(h * w) all of them alike
    tokens: tuple[int, ...]  # T ids
    spans: tuple[tuple[int, int], ...]  # where each word begins and ends in ``tokens``
    layers: tuple[LayerReads, ...]  # the raw weights
    labels: tuple[Label, ...] = ()  # most probable first

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return int(self.maps.shape[1]), int(self.maps.shape[2])
