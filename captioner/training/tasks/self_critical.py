"""Self-critical training: captions that the model draws itself, weighted by how much better than usual they score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.errors import ConfigError
from captioner.generation.hypothesis import Hypothesis
from captioner.metrics.bleu import smoothed_bleu
from captioner.metrics.words import words
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data
from captioner.training.tasks.policy import CiderReward, Drawn, Judged, PolicyGradient, PolicyOptions


@dataclass(frozen=True, kw_only=True)
class Options(PolicyOptions):
    """``bleu``: what a caption's own BLEU-4 / 100 counts in the reward beside CIDEr-D / 100."""

    bleu: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.bleu < float("inf"):
            raise ConfigError(f"options.bleu must be 0 or more, not {self.bleu}")


class SelfCritical(PolicyGradient):
    """Policy gradient on CIDEr-D (Rennie et al. 2017, arXiv 1612.00563, eq. 8), or on it and BLEU (Liu et al. 2017,
    arXiv 1612.00370). Document frequencies are those of the training split.
    """

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.cider = CiderReward(data.train, tokenizer)
        self.references = {s.name: [words(c) for c in tokenizer.default_captions(s.captions)] for s in data.train}

    def rewards(self, drawn: Drawn, features: Features, batch: Batch) -> Judged:
        cider = self.cider(drawn.captions, batch.names)
        figures = {"reward": 100 * cider.mean()}
        if not self.options.bleu:
            return Judged(rewards=cider, figures=figures)
        bleu = self._bleu(drawn.captions, batch.names)
        return Judged(rewards=cider + self.options.bleu * bleu, figures={**figures, "bleu": 100 * bleu.mean()})

    def _bleu(self, captions: Sequence[Sequence[Hypothesis]], names: Sequence[str]) -> Tensor:
        """(B, K), from 0 to 1. That a caption has ended CIDEr-D sees to."""
        return torch.tensor(
            [
                [smoothed_bleu(words(self.tokenizer.decode(h.tokens)), self.references[name]) / 100 for h in of_image]
                for name, of_image in zip(names, captions, strict=True)
            ]
        )
