"""The decoding step of every strategy: ``Writing`` returns next-token log-probabilities and continues captions.

All captions of an image share its memory and its cache slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.label_bias import LabelBias
from captioner.generation.processors import Processor
from captioner.models.decoder import Decoder, ImageMemory
from captioner.native.choice import largest


def to_sum_precision(values: Tensor) -> Tensor:
    """Convert ``values`` to the precision of sums over tokens: fp64, or fp32 on devices without fp64 (Apple's)."""
    return values.float() if values.device.type == "mps" else values.double()


def best_continuations(log_probs: Tensor, sums: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``count`` best continuations of each image: parents, tokens and sums, each (B, count), best first.

    At most one continuation of each of K beams ends the caption, so 2K of them always include K that continue. No beam
    has more than ``count`` of them, which avoids a sort of all B * K * V sums.
    """
    each, token = largest(log_probs, min(count, log_probs.shape[-1]))  # (B, K, count)
    totals, place = (sums[..., None] + to_sum_precision(each)).flatten(1).topk(min(count, each[0].numel()), dim=1)
    return place // each.shape[-1], token.flatten(1).gather(1, place), totals


def processed(log_probs: Tensor, tokens: Tensor, processors: Sequence[Processor], labels: LabelBias | None) -> Tensor:
    """Apply the labels' bias and the processors to ``log_probs`` (B, K, V) after captions ``tokens`` (B, K, T)."""
    biased = log_probs if labels is None else labels.biased(log_probs, tokens)
    result = biased.flatten(0, 1)  # (N, V)
    for process in processors:
        result = process(result, tokens.flatten(0, 1))
    return result.view_as(log_probs)


@dataclass(frozen=True, kw_only=True)
class Start:
    """The captions to generate for each image.

    prefix: The first tokens of every caption, or ``prefix[b]`` for those of image b, all of equal length.
    """

    captions: int  # per image
    steps: int  # most tokens of a caption after the prefix
    processors: Sequence[Processor] = ()
    prefix: Sequence[int] | Sequence[Sequence[int]] = ()
    labels: LabelBias | None = None


class Writing:
    """The K partial captions of each of B images. Call ``next`` and ``advance`` in turn.

        writing = Writing(decoder, memory, text, Start(captions=1, steps=20))
        log_probs = writing.next()  # (B, K, V)
        writing.advance(parents, log_probs.argmax(-1))  # parents (B, K)

    tokens: (B, K, T) tokens so far, without the start token.
    log_probs: (B, K, T) the model's log-probabilities of ``tokens``.
    """

    def __init__(self, decoder: Decoder, memory: ImageMemory, text: TextConfig, start: Start) -> None:
        """Begin the captions with the prefix of ``start``."""
        self.decoder, self.memory, self.processors = decoder, memory, start.processors
        self.labels = start.labels
        device = memory.centres.device
        begun = torch.tensor(start.prefix, dtype=torch.long, device=device)  # (T,) or (B, T)
        self.cache = decoder.new_cache(memory.images, 1 + begun.shape[-1] + start.captions * start.steps)
        self.tokens = (begun if begun.ndim == 1 else begun[:, None]).expand(memory.images, 1, -1)
        bos = torch.tensor([[text.bos_id]], device=device).expand(memory.images, 1)
        self._asked = torch.cat([bos, self.tokens[:, 0]], dim=1)  # (N, T) tokens not yet read by the decoder
        self.log_probs = torch.zeros(memory.images, 1, 0, dtype=torch.float32, device=device)
        self._model = torch.empty(0)

    @property
    def images(self) -> int:
        """The number of unfinished images, B."""
        return self.tokens.shape[0]

    @property
    def captions(self) -> int:
        """The number of captions per image, K."""
        return self.tokens.shape[1]

    def next(self) -> Tensor:
        """Return the processed log-probabilities (B, K, V) of the next token, fp32."""
        first = self.cache.words == 0 and self._asked.shape[1] > 1  # a prefix: its log-probabilities are needed too
        self._model = torch.empty(0)  # (B, K, V) is the largest tensor of a step: free the previous one first
        # No name keeps the logits alive. (N, T, V), T is 1 except for a prefix:
        log_probs = self.decoder(self._asked, self.memory, self.cache, last=not first).float().log_softmax(dim=-1)
        if first:
            self.log_probs = log_probs[:, None, :-1].gather(-1, self.tokens[..., None]).squeeze(-1)
        self._model = log_probs[:, -1].unflatten(0, (self.images, self.captions))  # (B, K, V)
        return self.processed(self._model, self.tokens)

    def processed(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Apply the rules of this search to ``log_probs`` (B, K, V) after captions ``tokens`` (B, K, T)."""
        return processed(log_probs, tokens, self.processors, self.labels)

    def most_gain(self) -> Tensor:
        """Return the most (B, K) that the labels' bias can still add to each caption."""
        return self.tokens.new_zeros(self.tokens.shape[:2]) if self.labels is None else self.labels.most(self.tokens)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Let caption k of image b continue caption ``parents[b, k]`` with ``tokens[b, k]``; both (B, K')."""
        chosen = self._model.flatten(1).gather(1, parents * self._model.shape[-1] + tokens)  # (B, K')
        self.tokens = torch.cat([rows_of(self.tokens, parents), tokens[..., None]], dim=-1)
        self.log_probs = torch.cat([rows_of(self.log_probs, parents), chosen[..., None]], dim=-1)
        self.cache.fork(parents)
        self._asked = tokens.flatten()[:, None]

    def with_token(self, image: int, caption: int, token: int) -> tuple[list[int], list[float]]:
        """Return the tokens and log-probabilities of a caption that ends with ``token``; call it before ``advance``."""
        written = [*self.tokens[image, caption].tolist(), token]
        return written, [*self.log_probs[image, caption].tolist(), float(self._model[image, caption, token])]

    def keep(self, images: Tensor) -> None:
        """Keep only the given images (B',)."""
        self.memory = self.memory.select(images)
        self.labels = None if self.labels is None else self.labels.select(images)
        self.cache.keep(images)
        self._asked = self._asked.unflatten(0, (self.images, self.captions))[images].flatten(0, 1)
        self.tokens, self.log_probs, self._model = self.tokens[images], self.log_probs[images], self._model[images]


def rows_of(values: Tensor, parents: Tensor) -> Tensor:
    """Select rows of ``values`` (B, K, T) by ``parents`` (B, K')."""
    return values.gather(1, parents[..., None].expand(-1, -1, values.shape[-1]))
