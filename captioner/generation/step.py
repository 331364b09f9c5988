"""The one decoding step: every strategy asks ``Writing`` for the next token and tells it which captions go on.

An image's memory and its slots of the cache exist once however many captions of it are under way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.processors import Processor
from captioner.models.decoder import Decoder, ImageMemory
from captioner.native.choice import largest


def wide(values: Tensor) -> Tensor:
    """``values`` in the precision of sums over many words: fp64, or fp32 where the device has no fp64 (Apple's)."""
    return values.float() if values.device.type == "mps" else values.double()


def best_continuations(log_probs: Tensor, sums: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` best continuations of each image: parents, tokens and sums, each (B, count), best first.

    At most one continuation of each of K beams ends the caption, so 2K of them always hold K that go on. No beam has
    more than ``count`` among them, which spares a sort of all B * K * V sums.
    """
    each, token = largest(log_probs, min(count, log_probs.shape[-1]))  # (B, K, count)
    totals, place = (sums[..., None] + wide(each)).flatten(1).topk(min(count, each[0].numel()), dim=1)
    return place // each.shape[-1], token.flatten(1).gather(1, place), totals


class Writing:
    """K captions of each of B images, under way.

    ``tokens`` (B, K, T): what they say so far, without the start token. ``log_probs`` (B, K, T): what the model gave
    for it. ``next`` and ``advance`` take turns; ``keep`` goes between them.
    """

    def __init__(
        self,
        decoder: Decoder,
        memory: ImageMemory,
        text: TextConfig,
        *,
        steps: int,
        captions: int,
        processors: Sequence[Processor] = (),
        prefix: Sequence[int] | Sequence[Sequence[int]] = (),
    ) -> None:
        """At most ``steps`` tokens after the ``prefix``, ``captions`` of each image.

        Every caption begins with the ``prefix``, or those of image b with ``prefix[b]``, all of one length.
        """
        self.decoder, self.memory, self.processors = decoder, memory, processors
        device = memory.centres.device
        begun = torch.tensor(prefix, dtype=torch.long, device=device)  # (T,) or (B, T)
        self.cache = decoder.new_cache(memory.images, 1 + begun.shape[-1] + captions * steps)
        self.tokens = (begun if begun.ndim == 1 else begun[:, None]).expand(memory.images, 1, -1)
        start = torch.tensor([[text.bos_id]], device=device).expand(memory.images, 1)
        self._asked = torch.cat([start, self.tokens[:, 0]], dim=1)  # (N, T) tokens that the decoder has not read
        self.log_probs = torch.zeros(memory.images, 1, 0, dtype=torch.float32, device=device)
        self._model = torch.empty(0)

    @property
    def images(self) -> int:
        """B, of those still under way."""
        return self.tokens.shape[0]

    @property
    def captions(self) -> int:
        """K."""
        return self.tokens.shape[1]

    def next(self) -> Tensor:
        """Log-probabilities (B, K, V) of the next token in fp32, as the processors leave them."""
        first = self.cache.words == 0 and self._asked.shape[1] > 1  # a prefix: all of its probabilities are wanted
        self._model = torch.empty(0)  # (B, K, V) are the largest numbers of a step: the last ones go before these come
        # No name keeps the logits. (N, T, V), T is 1 but for a prefix:
        log_probs = self.decoder(self._asked, self.memory, self.cache, last=not first).float().log_softmax(dim=-1)
        if first:
            self.log_probs = log_probs[:, None, :-1].gather(-1, self.tokens[..., None]).squeeze(-1)
        self._model = log_probs[:, -1].unflatten(0, (self.images, self.captions))  # (B, K, V)
        return self.processed(self._model, self.tokens)

    def processed(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, K, V) after captions ``tokens`` (B, K, T) as the processors leave them."""
        processed = log_probs.flatten(0, 1)  # (N, V)
        for process in self.processors:
            processed = process(processed, tokens.flatten(0, 1))
        return processed.view_as(log_probs)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Caption k of image b goes on from caption ``parents[b, k]`` with ``tokens[b, k]``; both (B, K')."""
        said = self._model.flatten(1).gather(1, parents * self._model.shape[-1] + tokens)  # (B, K')
        self.tokens = torch.cat([rows_of(self.tokens, parents), tokens[..., None]], dim=-1)
        self.log_probs = torch.cat([rows_of(self.log_probs, parents), said[..., None]], dim=-1)
        self.cache.fork(parents)
        self._asked = tokens.flatten()[:, None]

    def with_token(self, image: int, caption: int, token: int) -> tuple[list[int], list[float]]:
        """The tokens and log-probabilities of a caption that ends with ``token`` now, before ``advance``."""
        written = [*self.tokens[image, caption].tolist(), token]
        return written, [*self.log_probs[image, caption].tolist(), float(self._model[image, caption, token])]

    def keep(self, images: Tensor) -> None:
        """Go on with the given images (B',) only."""
        self.memory = self.memory.select(images)
        self.cache.keep(images)
        self._asked = self._asked.unflatten(0, (self.images, self.captions))[images].flatten(0, 1)
        self.tokens, self.log_probs, self._model = self.tokens[images], self.log_probs[images], self._model[images]


def rows_of(values: Tensor, parents: Tensor) -> Tensor:
    """(B, K, T) in the order of ``parents`` (B, K')."""
    return values.gather(1, parents[..., None].expand(-1, -1, values.shape[-1]))
