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
from captioner.models.decoder import Decoder, ImageMemory

LEVELS = 4  # words of a caption that are read at once
SPARE = 3  # branches of a level besides the beams, since the draft ranks a little differently


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
            self._see(ahead[0].first + torch.tensor(self._beams))
        else:
            self._levels = []
            self.cache.cut(level.first + level.log_probs.shape[1])  # its own branches stay, seen by none or some

    def _see(self, slots: Tensor) -> None:
        """Beam k's last word lies in slot ``slots[k]``."""
        assert self.cache.visible is not None
        self.cache.visible = self.cache.visible.scatter(2, slots[None, :, None], True)
        self.cache.words += 1

    def _look_ahead(self) -> None:
        draft, cache, asked, said = self.decoder.draft, self.cache, self._asked, self.tokens
        assert draft is not None
        before = cache.layers[0].length, cache.words
        assert cache.visible is not None
        beams, sums = cache.visible, wide(self.log_probs.sum(-1))  # (1, K, slots), (1, K)
        words, seen, branches = [asked], [], [dict[tuple[int, int], int]()]
        for left in range(min(LEVELS, self._left) - 1, -1, -1):
            if not left:
                cache.sight(1)
            else:
                log_probs = draft(asked, self.memory, cache, last=True).float().log_softmax(dim=-1)
                found = self.processed(log_probs.view(1, -1, log_probs.shape[-1]), said).clone()  # (1, branches, V)
                found[..., self._end] = -torch.inf  # what ends has no next word
            assert cache.visible is not None
            seen.append(cache.visible)
            if left:
                parents, tokens, sums = best_continuations(found, sums, self._width)  # (1, branches)
                cache.fork(parents)
                said = torch.cat([rows_of(said, parents), tokens[..., None]], dim=-1)
                asked = tokens[0][:, None]
                words.append(asked)
                pairs = zip(parents[0].tolist(), tokens[0].tolist(), strict=True)
                branches.append({pair: branch for branch, pair in enumerate(pairs)})
        cache.cut(before[0])
        counts = [len(level) for level in words]
        slots = before[0] + sum(counts)
        visible = torch.cat([F.pad(level, (0, slots - level.shape[2])) for level in seen], dim=1)  # (1, R, slots)
        places = torch.arange(before[1], before[1] + len(counts)).repeat_interleave(torch.tensor(counts))  # (R,)
        logits = self.decoder.branches(torch.cat(words), places, visible, self.memory, cache)
        firsts = [before[0] + sum(counts[:level]) for level in range(len(counts))]
        known = logits.float().log_softmax(dim=-1)[:, 0].split(counts)
        self._levels = [_Level(*level) for level in zip(firsts, branches, (k[None] for k in known), strict=True)]
        self._beams = list(range(counts[0]))
        cache.captions, cache.words, cache.visible = counts[0], before[1], F.pad(beams, (0, slots - before[0]))
        self._see(before[0] + torch.arange(counts[0]))


@dataclass(frozen=True)
class _Level:
    """Words that the decoder has read at once with those before and behind them."""

    first: int  # the slot of the first one; the others lie behind it
    branches: dict[tuple[int, int], int]  # (branch of the level before, word) -> branch
    log_probs: Tensor  # (1, branches, V), of the word after each
