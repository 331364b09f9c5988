"""A KV cache of past tokens, kept between decoding steps.

The captions of an image share one pool of slots, filled in the order of writing, with a step's captions side by side. A
caption that continues another one does not copy its past, it sees other slots. So beam search never moves keys and
values when beams are reordered; only a boolean mask of K x slots per image changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ReadMasks = tuple[Tensor | None, Tensor | None]  # masks of the global and of the local read; None hides nothing


@dataclass
class LayerCache:
    """The preallocated KV cache of one layer."""

    keys: Tensor  # (B, H, capacity, Dh)
    values: Tensor  # (B, H, capacity, Dh)
    length: int = 0  # number of filled slots

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append ``k``, ``v`` (B, H, slots, Dh) and return all filled slots."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@dataclass
class DecoderCache:
    """The KV cache of all decoder blocks, and which slots the K captions of each of the B images see."""

    layers: list[LayerCache]  # one per decoder block
    places: Tensor  # (slots,), a token's position in its caption; -1 for a learned prefix, visible at any distance
    words: int = 0  # tokens in each caption so far
    captions: int = 1  # K
    visible: Tensor | None = None  # (B, K, slots); None with one caption per image, which sees all slots

    @property
    def images(self) -> int:
        """The number of images, B."""
        return self.layers[0].keys.shape[0]

    def reserve(self, tokens: int, *, window: int | None = None) -> ReadMasks:
        """Return the masks for T more tokens of each caption: all of the past, and its last ``window`` tokens.

        Each mask is boolean and broadcasts to (B, H, K * T, slots + K * T), True where visible; None hides nothing.
        Call it once a step, before the layers append.
        """
        past, device = self.layers[0].length, self.places.device
        place = torch.arange(self.words, self.words + tokens, device=device)
        self.places[past : past + self.captions * tokens] = place.repeat(self.captions)
        places = self.places[: past + self.captions * tokens]
        own = place.repeat(self.captions)[:, None]  # (K * T, 1)
        everything: Tensor | None = None
        if self.visible is not None:
            same = torch.eye(self.captions, dtype=torch.bool, device=device).repeat_interleave(tokens, dim=1)
            seen = F.pad(self.visible, (0, same.shape[1]))  # (B, K, slots + K * T)
            seen[:, :, past:] = same
            self.visible = seen
            everything = seen.repeat_interleave(tokens, dim=1)[:, None]  # (B, 1, K * T, slots + K * T)
            if tokens > 1:
                everything = everything & (places <= own)
        elif tokens > 1:
            everything = places <= own
        self.words += tokens
        return everything, self._nearby(everything, places, own, window)

    def reserve_tree(self, visible: Tensor, places: Tensor, *, window: int | None = None) -> ReadMasks:
        """Return the masks for a tree of tokens at positions ``places`` (R,) with given visible slots.

        ``visible`` (B, R, slots + R): the last R slots are the tokens' own, in order. Call it before the layers append,
        like ``reserve``; ``words`` must already count up to the last token, and the cache's ``visible`` is unchanged.
        """
        past, everything = self.layers[0].length, visible[:, None]  # (B, 1, R, slots + R)
        self.places[past : past + len(places)] = places
        return everything, self._nearby(everything, self.places[: past + len(places)], places[:, None], window)

    def _nearby(self, everything: Tensor | None, places: Tensor, own: Tensor, window: int | None) -> Tensor | None:
        """Return ``everything`` limited to the windows of tokens at positions ``own`` (Q, 1)."""
        if window is None or self.words <= window:  # the same object, which callers test for identity
            return everything
        near = (places > own - window) | (places < 0)
        return near if everything is None else everything & near

    def fork(self, parents: Tensor) -> None:
        """Let caption k of image b continue caption ``parents[b, k]``; ``parents`` (B, K) may change K."""
        if self.visible is None:
            if parents.shape[1] == 1:
                return
            slots = self.layers[0].length
            self.visible = torch.ones(self.images, 1, slots, dtype=torch.bool, device=parents.device)
        self.visible = self.visible.gather(1, parents[..., None].expand(-1, -1, self.visible.shape[2]))
        self.captions = parents.shape[1]

    def rewind(self, words: int) -> None:
        """Drop the last ``words`` tokens of each image's only caption."""
        self.words -= words
        for layer in self.layers:
            layer.length -= words

    def cut(self, slots: int) -> None:
        """Drop all slots after the first ``slots``."""
        for layer in self.layers:
            layer.length = slots
        if self.visible is not None:
            self.visible = self.visible[:, :, :slots]

    def keep(self, images: Tensor) -> None:
        """Keep only the given images (B',)."""
        for layer in self.layers:
            layer.keys = layer.keys.index_select(0, images)
            layer.values = layer.values.index_select(0, images)
        if self.visible is not None:
            self.visible = self.visible.index_select(0, images)


def empty_cache(images: int, slots: int, shape: tuple[int, int, int], like: Tensor) -> DecoderCache:
    """Return a cache of ``slots`` tokens per image, all its captions together; ``shape`` is (layers, H, Dh)."""
    layers, heads, head_width = shape

    def slots_of_layer() -> Tensor:
        return torch.empty(images, heads, slots, head_width, dtype=like.dtype, device=like.device)

    places = torch.zeros(slots, dtype=torch.long, device=like.device)
    return DecoderCache([LayerCache(slots_of_layer(), slots_of_layer()) for _ in range(layers)], places)
