"""Keys and values of past tokens, kept between decoding steps.

The captions of an image share one pool of slots: slot after slot in the order of writing, a step's captions side by
side. A caption that goes on from another one does not copy its past, it only sees other slots. So a beam search never
moves keys and values, however its beams change places; a mask of K x slots truth values per image moves instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Sight = tuple[Tensor | None, Tensor | None]  # masks of the global and of the local reading; None hides nothing


@dataclass
class LayerCache:
    """Preallocated keys and values of one layer, each (B, H, capacity, Dh); the first ``length`` slots are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store ``k``, ``v`` (B, H, slots, Dh) behind the past and return past and present."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@dataclass
class DecoderCache:
    """One ``LayerCache`` per decoder block, and which slots the K captions of each of the B images see.

    ``words``: tokens in each caption so far. ``visible`` (B, K, slots), or None as long as there is one caption per
    image, which sees all. ``places`` (slots,): the word's place in its caption, or -1 for a learned prefix, which all
    words see, however far they have come.
    """

    layers: list[LayerCache]
    places: Tensor
    words: int = 0
    captions: int = 1
    visible: Tensor | None = None

    @property
    def images(self) -> int:
        """B."""
        return self.layers[0].keys.shape[0]

    def sight(self, tokens: int, *, window: int | None = None) -> Sight:
        """What T more tokens of each caption see: all of their past, and the last ``window`` words of it.

        Each is a boolean mask that broadcasts to (B, H, K * T, slots + K * T), True where visible, or None where there
        is nothing to hide. Call it once a step, before the layers append.
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

    def sight_of(self, visible: Tensor, places: Tensor, *, window: int | None = None) -> Sight:
        """What words see that stand at ``places`` (R,) of their captions and were each shown their slots.

        ``visible`` (B, R, slots + R) has them among the last slots, in their order. As ``sight``, before the layers
        append; but ``words`` counts up to the last of them already, and the cache's ``visible`` stays as it is.
        """
        past, everything = self.layers[0].length, visible[:, None]  # (B, 1, R, slots + R)
        self.places[past : past + len(places)] = places
        return everything, self._nearby(everything, self.places[: past + len(places)], places[:, None], window)

    def _nearby(self, everything: Tensor | None, places: Tensor, own: Tensor, window: int | None) -> Tensor | None:
        """Of all that words at ``own`` (Q, 1) see of slots at ``places`` (slots,), what is in their windows."""
        if window is None or self.words <= window:  # the same object: there is nothing to hide
            return everything
        near = (places > own - window) | (places < 0)
        return near if everything is None else everything & near

    def fork(self, parents: Tensor) -> None:
        """Caption k of image b goes on from caption ``parents[b, k]``; (B, K), K may be another number than before."""
        if self.visible is None:
            if parents.shape[1] == 1:
                return
            slots = self.layers[0].length
            self.visible = torch.ones(self.images, 1, slots, dtype=torch.bool, device=parents.device)
        self.visible = self.visible.gather(1, parents[..., None].expand(-1, -1, self.visible.shape[2]))
        self.captions = parents.shape[1]

    def rewind(self, words: int) -> None:
        """Forget the last ``words`` of each image's one caption."""
        self.words -= words
        for layer in self.layers:
            layer.length -= words

    def cut(self, slots: int) -> None:
        """Forget the slots behind the first ``slots``."""
        for layer in self.layers:
            layer.length = slots
        if self.visible is not None:
            self.visible = self.visible[:, :, :slots]

    def keep(self, images: Tensor) -> None:
        """Go on with the given images (B',) only."""
        for layer in self.layers:
            layer.keys = layer.keys.index_select(0, images)
            layer.values = layer.values.index_select(0, images)
        if self.visible is not None:
            self.visible = self.visible.index_select(0, images)


def empty_cache(images: int, slots: int, shape: tuple[int, int, int], like: Tensor) -> DecoderCache:
    """A cache with room for ``slots`` tokens per image, all its captions together; ``shape`` is (layers, H, Dh)."""
    layers, heads, head_width = shape

    def room() -> Tensor:
        return torch.empty(images, heads, slots, head_width, dtype=like.dtype, device=like.device)

    places = torch.zeros(slots, dtype=torch.long, device=like.device)
    return DecoderCache([LayerCache(room(), room()) for _ in range(layers)], places)
