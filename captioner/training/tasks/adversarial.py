"""Adversarial training: the captioner learns captions that a discriminator takes for human captions of the image."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.errors import ConfigError, DataError
from captioner.models.captioner import Captioner
from captioner.models.discriminator import Discriminator, whole_captions
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, Phase
from captioner.training.tasks.collapse import Collapse
from captioner.training.tasks.policy import (
    CiderReward,
    PolicyGradient,
    PolicyOptions,
    Rewards,
    SampledCaptions,
    seed_of,
)

KINDS = {"human": 0.5, "drawn": 0.25, "other": 0.25}  # weights in the discriminator's loss: half true, half false
LEAST_LOG = -7.0  # lower bound of a log-probability as reward: all probabilities below 0.001 are equally bad


@dataclass(frozen=True, kw_only=True)
class Options(PolicyOptions):
    """The options of the task adversarial."""

    cider: float = 1.0  # weight of CIDEr-D / 100 in the reward
    adversary: float = 0.2  # weight of the discriminator's log-probability that the caption is human
    head_start: int = 100  # first steps, in which ``adversary`` grows from 0 while the discriminator learns
    discriminator_lr: float = 1e-4  # peak learning rate
    window: int = 50  # steps of a collapse that end the stage

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cider", "adversary", "head_start", "discriminator_lr"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"options.{name} must be 0 or more, not {getattr(self, name)}")
        if not self.cider and not self.adversary:
            raise ConfigError("options.cider and options.adversary are both 0, so nothing is rewarded; raise one")
        if self.window < 1:
            raise ConfigError(f"options.window must be at least 1, not {self.window}")


class Adversarial(PolicyGradient):
    """Policy gradient on a discriminator's verdict (Dai et al. 2017, arXiv 1703.06029), CIDEr-D and human captions.

    Dai et al. compute a reward at each word from rollouts; here a caption has one reward, and the image's other samples
    are its baseline. In a phase of its own, the discriminator learns to distinguish human captions of an image from
    sampled ones and from human captions of other images. It reads the features of the captioner's backbone.
    """

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.cider = CiderReward(data.train, tokenizer, recipe.generation.language)
        self.context = recipe.decoder_config(1).context
        self.steps = 0
        self.collapse = Collapse(self.options.samples, self.options.window)

    @classmethod
    def check(cls, data: Data) -> None:
        super().check(data)
        if len(data.train) < 2:
            raise DataError("adversarial compares captions of different images; give at least two images")

    def begin(self, model: Captioner, average: Captioner) -> None:
        self.steps = 0
        self.collapse = Collapse(self.options.samples, self.options.window)
        self.discriminator = Discriminator(model)
        self.own["discriminator"] = self.discriminator

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase(loss=self.loss),
            Phase(
                name="discriminator",
                trains=("discriminator",),
                loss=self.discriminate,
                counts=lambda batch: torch.tensor(float(len(batch.names)), device=batch.tokens.device),
                lr=self.options.discriminator_lr,
            ),
        )

    def rewards(self, drawn: SampledCaptions, features: Features, batch: Batch) -> Rewards:
        """Return CIDEr-D plus the discriminator's current verdict; ``extra`` holds the discriminator's inputs."""
        device, options = features.values.device, self.options
        inputs = self._discriminator_captions(drawn, batch)
        inputs = {name: value.to(device) for name, value in inputs.items()}
        extra = {"values": features.values, "place": torch.tensor([*features.grid, features.prefix]), **inputs}
        training = self.discriminator.training
        drawn_only = inputs["kinds"][0] == list(KINDS).index("drawn")
        log_odds = self.discriminator.eval()(
            features.values,
            features.grid,
            features.prefix,
            inputs["captions"][:, drawn_only],
            inputs["ends"][:, drawn_only],
        )
        self.discriminator.train(training)
        believed = F.logsigmoid(log_odds).cpu()  # (B, K)
        cider = self.cider(drawn.captions, batch.names)
        grown = min(1.0, self.steps / options.head_start) if options.head_start else 1.0
        rewards = options.cider * cider + options.adversary * grown * believed.clamp(min=LEAST_LOG)
        figures = {
            "reward": 100 * rewards.mean(),
            "cider_d": 100 * cider.mean(),
            "believed": 100 * believed.exp().mean(),
            "spread": rewards.std(dim=1).mean(),
        }
        return Rewards(rewards=rewards, figures=figures, extra=extra)

    def _discriminator_captions(self, drawn: SampledCaptions, batch: Batch) -> dict[str, Tensor]:
        """Return the discriminator's captions (B, K, T), their ends, and their kinds.

        The kind of a caption is its place in ``KINDS``, or -1 for padding.
        """
        others = [self._captions_of_other_images(name, batch.tokens.shape[1], drawn.seed) for name in batch.names]
        groups = [
            whole_captions(tokens.cpu(), targets.cpu(), weights.cpu(), self.context)
            for tokens, targets, weights in (
                (batch.tokens, batch.targets, batch.weights),
                (drawn.tokens, drawn.targets, drawn.weights),
                self.collate().pad_captions(
                    others, [[self.tokenizer.start_of_ids(c) for c in each] for each in others]
                ),
            )
        ]
        length = max(captions.shape[-1] for captions, _ in groups)
        pad = self.tokenizer.config.pad_id
        captions = [F.pad(captions, (0, length - captions.shape[-1]), value=pad) for captions, _ in groups]
        kinds = [torch.where(ends > 0, kind, -1) for kind, (_, ends) in enumerate(groups)]
        kinds[1].fill_(1)  # every draw counts, even an empty one
        return {
            "captions": torch.cat(captions, dim=1),
            "ends": torch.cat([ends for _, ends in groups], dim=1),
            "kinds": torch.cat(kinds, dim=1),
        }

    def _captions_of_other_images(self, name: str, count: int, seed: int) -> Sequence[Sequence[int]]:
        """Return the tokens of human captions of random other images."""
        draw = random.Random(seed_of(seed, name))
        captions: list[Sequence[int]] = []
        while len(captions) < count:
            sample = draw.choice(self.data.train)
            if sample.name != name:
                captions.append(self.tokenizer.encode(draw.choice(sample.captions))[: self.context - 1])
        return captions

    def discriminate(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return sums over images of the discriminator's binary cross-entropy, and of its accuracy in percent."""
        extra = batch.extra
        h, w, prefix = extra["place"].tolist()
        log_odds = wrapped(extra["values"], (h, w), prefix, extra["captions"], extra["ends"]).float()  # (B, K)
        losses: dict[str, Tensor] = {"loss": log_odds.new_zeros(())}
        for kind, (name, weight) in enumerate(KINDS.items()):
            human = kind == 0
            real = (extra["kinds"] == kind).float()  # (B, K)
            share = real / real.sum(dim=1, keepdim=True).clamp(min=1)
            loss = F.binary_cross_entropy_with_logits(log_odds, torch.full_like(log_odds, human), reduction="none")
            losses["loss"] = losses["loss"] + weight * (share * loss).sum()
            losses[name] = 100 * (share * ((log_odds > 0) == human)).sum()
        return losses

    def watch(self, figures: Mapping[str, float]) -> str:
        self.steps += 1
        return self.collapse.watch(figures)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "seen": self.collapse.seen, "first": self.collapse.first}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        self.collapse.seen, self.collapse.first = state["seen"], state["first"]
