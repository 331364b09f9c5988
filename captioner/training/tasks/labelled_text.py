"""Captions without images that teach the decoder to read label tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint
from captioner.errors import ConfigError, UsageError
from captioner.metrics.nouns import LabelFinder
from captioner.models.captioner import Captioner
from captioner.models.labels import LabelSet
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data
from captioner.training.tasks.labels import equipped
from captioner.training.tasks.language_model import LanguageModel
from captioner.training.tasks.policy import seed_of

NAMED = (0.4, 0.98)  # range of the probability that a label in the caption gets
DISTRACTING = (0.2, 0.7)  # of a label that is not in the caption, but looks probable
IMPROBABLE = (0.002, 0.1)  # of the others


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the task labelled_text. A captioner with a labeller keeps its words."""

    words: str = "everyday"  # these three as for the task labels
    count: int = 8
    classifier: str = ""
    dropped: float = 0.4  # share of a caption's labels that are left out
    distractors: float = 0.1  # share of the other label tokens that look probable

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError("options.count must be at least 1")
        for name in ("dropped", "distractors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"options.{name} must lie between 0 and 1, not {getattr(self, name)}")


class LabelledText(LanguageModel):
    """Next-token prediction on lines of text, with the label tokens that a photo of the line might have.

    The labels of a line are the nouns in it, some left out, with distractors (Fei et al. 2023, arXiv 2307.16525,
    section 3.3: entities as a prompt, 40 % of them masked). The decoder reads them by the cross-attention, where the
    patches will be; it learns words that no captioned photo shows.
    """

    yardstick = "text and labels"
    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.finder = LabelFinder(())
        self.count = self.options.count

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Add a labeller to a captioner without one."""
        if recipe.adapter is not None:
            raise UsageError(
                "labelled_text trains a labeller, which an adapter run cannot train; leave the adapter out"
            )
        options: Options = cls.options_of(stage)
        return equipped(checkpoint, options.words, options.count, options.classifier, seed=recipe.seed)

    def trained(self, name: str) -> bool:
        without_patches = (".classify.", ".cross_attn.focus.", ".cross_attn.read.")  # nothing teaches them here
        return name.startswith(("decoder.", "labeller.")) and not any(part in name for part in without_patches)

    def begin(self, model: Captioner, average: Captioner) -> None:
        assert model.config.labels is not None
        assert model.labeller is not None
        self.finder, self.count = LabelFinder(model.config.labels.words), model.labeller.count

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Add the labels (B, L) of each line and their log-odds."""
        return self._with_labels(batch, batch.seed)

    def prepare_for_validation(self, model: Captioner, batch: Batch) -> Batch:
        return self._with_labels(batch, 0)

    def _with_labels(self, batch: Batch, seed: int) -> Batch:
        rows = [
            self.draw(sorted(self.finder.find(texts[0])), torch.Generator().manual_seed(seed_of(seed, name)))
            for name, texts in zip(batch.names, batch.captions, strict=True)
        ]
        labels, chances = (torch.stack(part).to(batch.tokens.device) for part in zip(*rows, strict=True))
        return replace(batch, extra={**batch.extra, "labels": labels, "log_odds": chances.logit()})

    def draw(self, named: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the labels (L,) of a line that names the labels ``named``, and a probability (L,) of each."""

        def chances(count: int) -> Tensor:
            return torch.rand(count, generator=generator)

        kept = torch.tensor(named, dtype=torch.long)[chances(len(named)) >= self.options.dropped][: self.count]
        others = torch.randperm(len(self.finder.labels), generator=generator)
        others = others[~torch.isin(others, torch.tensor(named, dtype=torch.long))][: self.count - len(kept)]
        probable = chances(len(others)) < self.options.distractors
        likely, unlikely = (_within(ends, chances(len(others))) for ends in (DISTRACTING, IMPROBABLE))
        between = torch.where(probable, likely, unlikely)
        labels = torch.cat([kept, others])
        missing = self.count - len(labels)  # a short list of labels, most of them in the line
        labels = torch.cat([labels, torch.tensor(list(named) or [0])[:1].expand(missing)])
        values = torch.cat([_within(NAMED, chances(len(kept))), between, torch.full((missing,), IMPROBABLE[0])])
        return labels, values

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch.tokens, LabelSet(batch.extra["labels"], batch.extra["log_odds"])).logits
        return logits


def _within(ends: tuple[float, float], share: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * share
