"""Several words for one reading of the weights: a draft writes ahead, the decoder itself reads all of it at once.

Leviathan et al. 2023 (arXiv 2211.17192) for the likeliest word. The draft is the decoder in int8
(``models/precision.py``) and costs a quarter of its memory. What a search is told is what the decoder gives: the draft
decides only how soon.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.processors import Processor
from captioner.generation.step import Writing
from captioner.models.decoder import Decoder, ImageMemory

AHEAD = 9  # words; a draft of 153M that nearly always agrees: 20 words in 185 ms at 4, 165 at 6, 140 at 9, 143 at 13


class Foresight(Writing):
    """``Writing`` of one caption of one image, its decoder's draft some words ahead.

    The draft reads the keys and values that the decoder has cached; its own are overwritten with the decoder's.
    """

    def __init__(
        self,
        decoder: Decoder,
        memory: ImageMemory,
        text: TextConfig,
        *,
        steps: int,
        processors: Sequence[Processor] = (),
        prefix: Sequence[int] = (),
    ) -> None:
        """As ``Writing``, for a decoder that has a draft."""
        super().__init__(decoder, memory, text, steps=steps, captions=1, processors=processors, prefix=prefix)
        self._left, self._end = steps, text.eos_id
        self._guessed: list[int] = []  # the words that the decoder has read ahead
        self._known = torch.empty(0)  # (1, 1 + guessed, V): what it gives after the last word and after each of them

    def next(self) -> Tensor:
        """As ``Writing.next``."""
        if self._asked.shape[1] > 1:  # a prefix
            return super().next()
        if not self._known.numel():
            self._look_ahead()
        self._model = self._known[:, :1]  # (1, 1, V)
        return self.processed(self._model, self.tokens)

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """As ``Writing.advance``."""
        super().advance(parents, tokens)
        self._left -= 1
        if self._guessed and self._guessed[0] == int(tokens):
            self._guessed, self._known = self._guessed[1:], self._known[:, 1:]
        else:
            self.cache.rewind(len(self._guessed))
            self._guessed, self._known = [], torch.empty(0)

    def _look_ahead(self) -> None:
        draft, asked, said = self.decoder.draft, self._asked, self.tokens  # (1, 1), (1, 1, T)
        assert draft is not None
        for _ in range(min(AHEAD, self._left - 1)):
            log_probs = draft(asked[:, -1:], self.memory, self.cache, last=True).float().log_softmax(dim=-1)
            word = self.processed(log_probs, said).argmax(dim=-1)  # (1, 1)
            asked, said = torch.cat([asked, word], dim=1), torch.cat([said, word[..., None]], dim=-1)
            if int(word) == self._end:
                break
        self._guessed = asked[0, 1:].tolist()
        self.cache.rewind(len(self._guessed))
        self._known = self.decoder(asked, self.memory, self.cache).float().log_softmax(dim=-1)
