"""Self-critical training: policy gradient on CIDEr-D of captions sampled from the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from captioner.errors import ConfigError
from captioner.metrics.bleu import smoothed_bleu
from captioner.metrics.mentions import mention_f1
from captioner.metrics.nouns import LabelFinder
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data
from captioner.training.tasks.labels import read_words
from captioner.training.tasks.policy import CiderReward, PolicyGradient, PolicyOptions, Rewards, SampledCaptions


@dataclass(frozen=True, kw_only=True)
class Options(PolicyOptions):
    """The options of the task self_critical: weights of further rewards beside CIDEr-D / 100."""

    bleu: float = 0.0  # weight of the caption's BLEU-4 / 100
    mentions: float = 0.0  # weight of the labels' F1 / 100, which rewards words that CIDEr-D neglects
    labels: str = "everyday"  # a shipped list or a file, as for the task labels

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bleu", "mentions"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"options.{name} must be 0 or more, not {getattr(self, name)}")


class SelfCritical(PolicyGradient):
    """Policy gradient on CIDEr-D (Rennie et al. 2017, arXiv 1612.00563, eq. 8), with BLEU and mentions on request.

    CIDEr-D with BLEU is the reward of Liu et al. 2017 (arXiv 1612.00370). Document frequencies are those of the
    training split.
    """

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        language = recipe.generation.language
        self.cider = CiderReward(data.train, tokenizer, language)
        captions = {sample.name: tokenizer.captions_in(language, sample.captions) for sample in data.train}
        if self.options.bleu:
            self.references = {name: [self.cider.words(c) for c in group] for name, group in captions.items()}
        if self.options.mentions:
            self.finder = LabelFinder(read_words(self.options.labels))
            self.named = {name: [self.finder.find(c) for c in group] for name, group in captions.items()}

    def rewards(self, drawn: SampledCaptions, features: Features, batch: Batch) -> Rewards:
        cider = self.cider(drawn.captions, batch.names)
        rewards, figures = cider, {"reward": 100 * cider.mean()}
        more = {"bleu": (self.options.bleu, self._bleu), "mentions": (self.options.mentions, self._mentions)}
        for name, (weight, score) in more.items():
            if weight:
                each = torch.tensor(
                    [
                        [score(self.tokenizer.decode(h.tokens), image) / 100 for h in group]
                        for image, group in zip(batch.names, drawn.captions, strict=True)
                    ]
                )  # (B, K), from 0 to 1; only CIDEr-D rewards the end token
                rewards, figures = rewards + weight * each, {**figures, name: 100 * each.mean()}
        return Rewards(rewards=rewards, figures=figures)

    def _bleu(self, caption: str, image: str) -> float:
        return smoothed_bleu(self.cider.words(caption), self.references[image])

    def _mentions(self, caption: str, image: str) -> float:
        return mention_f1(self.finder.find(caption), self.named[image])
