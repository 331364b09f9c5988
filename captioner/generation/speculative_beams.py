"""Speculative decoding for beam search: a draft searches ahead, and the decoder verifies its tree in one pass.

The draft's beams form a tree of tokens after the running beams. If the next beams are branches of that tree, their
logits are already known. As in ``speculative_greedy.py``, results are the decoder's own; the draft only affects the
speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.step import Start, Writing, best_continuations, rows_of, to_sum_precision
from captioner.layers.cache import DecoderCache
from captioner.models.decoder import Decoder, ImageMemory

LEVELS = 4  # tokens of a caption that the decoder reads in one pass
SPARE = 3  # extra branches of a level, since the draft ranks slightly differently
# Beam 5 of 153M, 20 words of four images: 440 ms without a draft, 323 with 3 levels and 2 spare, 300 with 4 and 2, 302
# with 4 and 3 (equal for each image), 301 with 5 and 3. Drafting the first word, the least certain one, was no faster.


class SpeculativeBeams(Writing):
    """A ``Writing`` for beam search on one image, with speculative decoding by a draft."""

    def __init__(
        self, decoder: Decoder, memory: ImageMemory, text: TextConfig, start: Start, *, draft: Decoder
    ) -> None:
        """Begin the captions with the draft of ``decoder``."""
        self._width = start.captions + SPARE  # branches of a level, the most slots per token, see ``advance``
        super().__init__(decoder, memory, text, replace(start, captions=self._width))
        self._draft, self._left, self._end = draft, start.steps, text.eos_id
        self._levels: list[_Level] = []  # the first holds the running beams, the others are read ahead
        self._beams: list[int] = []  # indices of the running beams in the first level

    def next(self) -> Tensor:
        """Return the log-probabilities (B, K, V) of the next token, like ``Writing.next``."""
        if self.captions == 1:  # the first step
            return super().next()
        if not self._levels:
            self._look_ahead()
        self._model = self._levels[0].log_probs[:, self._beams]  # (1, K, V)
        return self.processed(self._model, self.tokens)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Continue the captions with the chosen tokens, like ``Writing.advance``."""
        super().advance(parents, tokens)
        self._left -= 1
        if not self._levels:
            return
        level, ahead = self._levels[0], self._levels[1:]
        pairs = [(self._beams[p], t) for p, t in zip(parents[0].tolist(), tokens[0].tolist(), strict=True)]
        if ahead and all(pair in ahead[0].branches for pair in pairs):
            self._levels, self._beams = ahead, [ahead[0].branches[pair] for pair in pairs]
            self._see(ahead[0].first + torch.tensor(self._beams, device=tokens.device))
        else:
            self._levels = []
            self.cache.cut(level.first + level.log_probs.shape[1])  # its unused branches stay, hidden by the mask

    def _see(self, slots: Tensor) -> None:
        """Make slot ``slots[k]``, the last token of beam k, visible to it."""
        self.cache.visible = _visible(self.cache).scatter(2, slots[None, :, None], True)
        self.cache.words += 1

    def _look_ahead(self) -> None:
        cache = self.cache
        slots, words, beams = cache.layers[0].length, cache.words, cache.visible  # beams (1, K, slots)
        assert beams is not None
        device = beams.device
        drafted = self._drafted()
        counts = [len(level.words) for level in drafted]
        firsts = [slots + sum(counts[:level]) for level in range(len(counts))]
        end = slots + sum(counts)
        cache.cut(slots)  # the decoder overwrites the draft's keys and values
        logits = self.decoder.branches(
            torch.cat([level.words for level in drafted]),
            torch.tensor([words + level for level, count in enumerate(counts) for _ in range(count)], device=device),
            torch.cat([F.pad(level.visible, (0, end - level.visible.shape[2])) for level in drafted], dim=1),
            self.memory,
            cache,
        )  # (R, 1, V)
        log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1).split(counts, dim=1)
        self._levels = [
            _Level(first, level.branches, part) for first, level, part in zip(firsts, drafted, log_probs, strict=True)
        ]
        self._beams = list(range(counts[0]))
        cache.captions, cache.words, cache.visible = counts[0], words, F.pad(beams, (0, end - slots))
        self._see(slots + torch.arange(counts[0], device=device))

    def _drafted(self) -> list[_Drafted]:
        """Return the running beams' last tokens, followed by the levels that the draft predicts."""
        cache, unread, captions = self.cache, self._asked, self.tokens
        sums, branches = to_sum_precision(self.log_probs.sum(-1)), dict[tuple[int, int], int]()  # (1, K)
        drafted = []
        for _ in range(min(LEVELS, self._left) - 1):
            logits = self._draft(unread, self.memory, cache, last=True)  # (branches, 1, V)
            drafted.append(_Drafted(unread, branches, _visible(cache)))
            log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)  # (1, branches, V)
            log_probs = self.processed(log_probs, captions).clone()
            log_probs[..., self._end] = -torch.inf  # a finished caption has no next token
            parents, tokens, sums = best_continuations(log_probs, sums, self._width)  # (1, branches)
            cache.fork(parents)
            captions = torch.cat([rows_of(captions, parents), tokens[..., None]], dim=-1)
            pairs = zip(parents[0].tolist(), tokens[0].tolist(), strict=True)
            unread, branches = tokens[0][:, None], {pair: branch for branch, pair in enumerate(pairs)}
        cache.reserve(1)  # the draft does not read the last level
        return [*drafted, _Drafted(unread, branches, _visible(cache))]


def _visible(cache: DecoderCache) -> Tensor:
    assert cache.visible is not None
    return cache.visible


@dataclass(frozen=True)
class _Drafted:
    """A level of the draft's tree: tokens at one position of their captions."""

    words: Tensor  # (branches, 1), token ids
    branches: dict[tuple[int, int], int]  # (branch of the level before, token) -> branch
    visible: Tensor  # (1, branches, slots up to their own)


@dataclass(frozen=True)
class _Level:
    """A level of the tree that the decoder has read in one pass with the others."""

    first: int  # slot of the first branch; the others follow
    branches: dict[tuple[int, int], int]  # (branch of the level before, token) -> branch
    log_probs: Tensor  # (1, branches, V), of the token after each
