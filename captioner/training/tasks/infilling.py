"""Infilling: the model writes the middle of a caption from its left and right sides.

A causal decoder learns it from the order of the tokens alone: BOS left GAP right GAP middle EOS (Donahue et al. 2020,
arXiv 2005.05339, section 3.1; Bavarian et al. 2022, arXiv 2207.14255, section 3). The padding token marks the gap, so a
checkpoint learns it without a new entry of its vocabulary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.config import CaptionerConfig, TextConfig
from captioner.generation.refine import WIDEST, gapped
from captioner.generation.words import word_spans
from captioner.models.captioner import Captioner
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.features import FeatureStore
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, plain_nll
from captioner.training.tasks.cross_entropy import CrossEntropy

SHARE = 0.5  # share of captions with a gap; the others keep the model from forgetting captioning


def gap_id(text: TextConfig) -> int:
    """Return the token of a gap: by default padding, which otherwise occurs only after captions, without a loss."""
    return text.pad_id if text.gap_id is None else text.gap_id


@dataclass(frozen=True)
class Gaps:
    """A function that moves 1 to ``WIDEST`` random words of a caption to its end.

    It does not change a caption that two gap tokens would make too long.
    """

    tokenizer: CaptionTokenizer
    room: int  # tokens of the longest caption
    share: float = SHARE  # share of captions with a gap

    def __call__(self, ids: tuple[int, ...], draw: random.Random) -> tuple[int, ...]:
        spans = word_spans(ids, self.tokenizer)
        if draw.random() >= self.share or not spans or len(ids) + 2 > self.room:
            return ids
        width = draw.randint(1, min(WIDEST, len(spans)))
        first = draw.randrange(len(spans) - width + 1)
        start, end = spans[first][0], spans[first + width - 1][1]
        return gapped(ids[:start], ids[end:], gap_id(self.tokenizer.config)) + ids[start:end]


def gaps_and_middles(tokens: Tensor, weights: Tensor, gap: int) -> tuple[Tensor, Tensor]:
    """Return masks of the captions with a gap, (B, K, 1), and of the places that predict middles and ends, (B, K, T).

    ``tokens`` (B, K, T) with the start; ``weights`` (B, K, T) are 0 on padding.
    """
    gaps = (tokens == gap) & (weights > 0)
    gaps[..., 0] = False  # the start, which may have the id of the gap
    seen = gaps.cumsum(-1)  # (B, K, T)
    return seen[..., -1:] == 2, (seen == 2) & (weights > 0)


class Infilling(CrossEntropy):
    """Cross-entropy of captions, and of the middles of captions with a gap.

    The config of the trained checkpoint has a ``gap_id``. The score is that of the captions less the perplexity of the
    middles, so weights that cannot fill gaps are never the best.
    """

    yardstick = "captions and gaps"

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.vary = self.gaps = Gaps(tokenizer, recipe.decoder_config(1).context - 1)

    @classmethod
    def trained_config(cls, config: CaptionerConfig) -> CaptionerConfig:
        return replace(config, text=replace(config.text, gap_id=gap_id(config.text)))

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Remove the loss of both sides of a gap: only the middle and the end are predicted."""
        gap, middle = gaps_and_middles(batch.tokens, batch.weights, gap_id(self.tokenizer.config))
        return replace(batch, weights=batch.weights * (~gap | middle))

    def judge(self, decoder: Decoder, memory: ImageMemory, batch: Batch) -> dict[str, tuple[float, float]]:
        """Return also the figures of the middles, with a gap in each caption, the same in every validation."""
        vary = replace(self.gaps, share=1.0)
        captions = [
            [
                vary(tuple(targets[: max(0, length - 1)]), random.Random(f"{name} {k}"))
                for k, (targets, length) in enumerate(zip(group, lengths, strict=True))
            ]
            for name, group, lengths in zip(
                batch.names, batch.targets.tolist(), (batch.weights > 0).sum(-1).tolist(), strict=True
            )
        ]
        tokens, targets, weights = self.collate().pad_captions(captions, batch.tokens[..., 0].tolist())
        _, middle = gaps_and_middles(tokens, weights, gap_id(self.tokenizer.config))
        with_gaps = replace(batch, tokens=tokens, targets=targets, weights=weights * middle).to(batch.tokens.device)
        infill = plain_nll(decoder(with_gaps.tokens.flatten(0, 1), memory), with_gaps)
        return {**super().judge(decoder, memory, batch), "infill": infill}

    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        figures = super().validate(model, store, device)
        return {**figures, "score": figures["score"] - figures["infill_perplexity"]}
