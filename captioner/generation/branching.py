"""Foresight for beams: a draft searches some words ahead, the decoder reads all that it found at once.

What the draft's beams reach is a tree of words behind the running beams. Where the next beams are among its branches
they are read already. As in ``foresight.py`` a search is told what the decoder gives, the draft decides only how soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.processors import Processor
from captioner.generation.step import Writing, best_continuations, rows_of, wide
from captioner.layers.cache import DecoderCache
from captioner.models.decoder import Decoder, ImageMemory

LEVELS = 4  # words of a caption that are read at once
SPARE = 3  # branches of a level besides the beams, since the draft ranks a little differently
# Beam 5 of 153M, 20 words of four images: 440 ms without a draft, 323 at 3 levels and 2 to spare, 300 at 4 and 2, 302
# at 4 and 3 (each image alike), 301 at 5 and 3. A draft for the first word too was no faster: it is the least certain.


class Branching(Writing):
    """``Writing`` of the beams of one image, its decoder's draft some words ahead of them."""

    def __init__(
        self,
        decoder: Decoder,
        memory: ImageMemory,
        text: TextConfig,
        *,
        steps: int,
        captions: int,
        processors: Sequence[Processor] = (),
        prefix: Sequence[int] = (),
    ) -> None:
        """As ``Writing``, for a decoder that has a draft."""
        self._width = captions + SPARE  # branches of a level; a word takes so many slots at most, see ``advance``
        super().__init__(decoder, memory, text, steps=steps, captions=self._width, processors=processors, prefix=prefix)
        self._left, self._end = steps, text.eos_id
        self._levels: list[_Level] = []  # the first are the running beams, those behind it are read ahead
        self._beams: list[int] = []  # which branches of the first level they are

    def next(self) -> Tensor:
        """As ``Writing.next``."""
        if self.captions == 1:  # the beginning
            return super().next()
        if not self._levels:
            self._look_ahead()
        self._model = self._levels[0].log_probs[:, self._beams]  # (1, K, V)
        return self.processed(self._model, self.tokens)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """As ``Writing.advance``."""
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
            self.cache.cut(level.first + level.log_probs.shape[1])  # its own branches stay, seen by none or some

    def _see(self, slots: Tensor) -> None:
        """Beam k's last word lies in slot ``slots[k]``."""
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
        cache.cut(slots)  # the draft's keys and values give place to the decoder's
        logits = self.decoder.branches(
            torch.cat([level.words for level in drafted]),
            torch.tensor([words + level for level, count in enumerate(counts) for _ in range(count)], device=device),
            torch.cat([F.pad(level.visible, (0, end - level.visible.shape[2])) for level in drafted], dim=1),
            self.memory,
            cache,
        )  # (R, 1, V)
        log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1).split(counts, dim=1)
        self._levels = [
            _Level(first, level.branches, known) for first, level, known in zip(firsts, drafted, log_probs, strict=True)
        ]
        self._beams = list(range(counts[0]))
        cache.captions, cache.words, cache.visible = counts[0], words, F.pad(beams, (0, end - slots))
        self._see(slots + torch.arange(counts[0], device=device))

    def _drafted(self) -> list[_Drafted]:
        """The running beams' last words, and the levels that the draft would go on with."""
        draft, cache, asked, said = self.decoder.draft, self.cache, self._asked, self.tokens
        assert draft is not None
        sums, branches = wide(self.log_probs.sum(-1)), dict[tuple[int, int], int]()  # (1, K)
        drafted = []
        for _ in range(min(LEVELS, self._left) - 1):
            logits = draft(asked, self.memory, cache, last=True)  # (branches, 1, V)
            drafted.append(_Drafted(asked, branches, _visible(cache)))
            log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)  # (1, branches, V)
            log_probs = self.processed(log_probs, said).clone()
            log_probs[..., self._end] = -torch.inf  # what ends has no next word
            parents, tokens, sums = best_continuations(log_probs, sums, self._width)  # (1, branches)
            cache.fork(parents)
            said = torch.cat([rows_of(said, parents), tokens[..., None]], dim=-1)
            pairs = zip(parents[0].tolist(), tokens[0].tolist(), strict=True)
            asked, branches = tokens[0][:, None], {pair: branch for branch, pair in enumerate(pairs)}
        cache.sight(1)  # the last level is not read by the draft
        return [*drafted, _Drafted(asked, branches, _visible(cache))]


def _visible(cache: DecoderCache) -> Tensor:
    assert cache.visible is not None
    return cache.visible


@dataclass(frozen=True)
class _Drafted:
    """Words of one place in their captions, as a draft would have them."""

    words: Tensor  # (branches, 1)
    branches: dict[tuple[int, int], int]  # (branch of the level before, word) -> branch
    visible: Tensor  # (1, branches, slots up to their own)


@dataclass(frozen=True)
class _Level:
    """Words that the decoder has read at once with those before and behind them."""

    first: int  # the slot of the first one; the others lie behind it
    branches: dict[tuple[int, int], int]  # (branch of the level before, word) -> branch
    log_probs: Tensor  # (1, branches, V), of the word after each
