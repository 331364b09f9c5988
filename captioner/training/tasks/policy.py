"""The common base of policy gradient objectives on captions sampled from the model.

REINFORCE (Williams 1992) with the mean reward of an image's other samples as baseline (Luo 2020, arXiv 2003.09971) is
one weighted caption loss: each sampled caption's cross-entropy times its advantage.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import GenerationConfig, SamplingConfig
from captioner.data.samples import Sample
from captioner.errors import ConfigError, DataError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.search import search
from captioner.metrics.cider import CiderD, DocumentFrequencies
from captioner.metrics.words import splitter
from captioner.models.captioner import Captioner
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, features_of, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy

END = "<eos>"  # a word of the reward: without it a caption gains by stopping early


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """The options of policy gradient tasks."""

    samples: int = 5  # sampled captions per image
    human: float = 0.2  # weight of the human captions' cross-entropy, which keeps the language varied

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigError(
                f"options.samples must be at least 2, since the others are the baseline of each, not {self.samples}"
            )
        if self.human < 0:
            raise ConfigError(f"options.human must be 0 or more, not {self.human}")


@dataclass(frozen=True, kw_only=True)
class SampledCaptions:
    """K sampled captions of each of B images."""

    captions: list[list[Hypothesis]]
    tokens: Tensor  # (B, K, T), as in a Batch
    targets: Tensor
    weights: Tensor
    seed: int  # seed of the step; all random choices for an image depend only on it and the image's name


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The rewards of sampled captions."""

    rewards: Tensor  # (B, K)
    figures: Mapping[str, Tensor] = field(default_factory=dict)  # means to log
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # further inputs of the loss


class PolicyGradient(CrossEntropy):
    """A policy gradient: captions with a higher reward than the image's other samples become more probable."""

    Options = PolicyOptions

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.policy: PolicyOptions = self.options_of(stage)

    @classmethod
    def check(cls, data: Data) -> None:
        names = [sample.name for sample in data.train]
        if len(set(names)) < len(names):
            raise DataError("rewards need a unique name of each image, and some training images share one; rename them")

    @abstractmethod
    def rewards(self, drawn: SampledCaptions, features: Features, batch: Batch) -> Rewards:
        """Return the rewards of sampled captions of the images of ``batch``, from the backbone's ``features``."""

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Return a batch of sampled captions with their advantages, then the human captions with their weight."""
        training = model.training
        features = features_of(model.eval(), batch)
        drawn = self._draw(model, features, batch.names, batch.seed)
        judged = self.rewards(drawn, features, batch)
        model.train(training)
        advantages = leave_one_out(judged.rewards.float().cpu())
        tokens, targets, weights = drawn.tokens, drawn.targets, drawn.weights
        words_drawn = weights.sum()
        if self.policy.human:
            length = max(tokens.shape[2], batch.tokens.shape[2])
            human = torch.full(batch.tokens.shape[:2], self.policy.human)
            pad = self.tokenizer.config.pad_id
            pairs = ((tokens, batch.tokens, pad), (targets, batch.targets, pad), (weights, batch.weights, 0))
            tokens, targets, weights = (
                torch.cat(
                    [F.pad(part, (0, length - part.shape[2]), value=fill) for part in (ours, theirs.cpu())], dim=1
                )
                for ours, theirs, fill in pairs
            )
            advantages = torch.cat([advantages, human], dim=1)
        different = len({caption.tokens for group in drawn.captions for caption in group})
        figures = {
            **judged.figures,
            "drawn_tokens": words_drawn / judged.rewards.numel(),
            "distinct": torch.tensor(100 * different / judged.rewards.numel()),
        }
        return replace(
            batch,
            image=features if self.stage.vision == "frozen" else batch.image,  # frozen features are computed once
            tokens=tokens,
            targets=targets,
            weights=weights,
            advantages=advantages,
            figures={name: value.cpu() * len(batch.names) for name, value in figures.items()},
            extra=judged.extra,
        ).to(batch.tokens.device)

    def _draw(self, model: Captioner, features: Features, names: Sequence[str], seed: int) -> SampledCaptions:
        config = GenerationConfig(
            sampling=SamplingConfig(),
            candidates=self.policy.samples,
            max_tokens=self.recipe.generation.max_tokens,
            language=self.recipe.generation.language,
        )
        memory = model.remember(model.encode_features(features))
        seeds = [seed_of(seed, name) for name in names]
        captions = search(model.decoder, memory, self.tokenizer.config, config, seeds=seeds)
        start = self.tokenizer.config.speaking(config.language).bos_id
        tokens, targets, weights = self.collate().pad_captions(
            [[h.tokens for h in group] for group in captions], [[start] * len(group) for group in captions]
        )
        for b, group in enumerate(captions):
            for k, caption in enumerate(group):
                weights[b, k, caption.length :] = 0  # a truncated caption has no end
        return SampledCaptions(captions=captions, tokens=tokens, targets=targets, weights=weights, seed=seed)

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        advantages = cast(Tensor, batch.advantages)
        loss, _ = weighted_cross_entropy(
            wrapped(batch.tokens, batch.image).logits, batch.targets, batch.weights * advantages[..., None]
        )
        return {"loss": loss}


class CiderReward:
    """CIDEr-D / 100 of sampled captions against human ones, with document frequencies of the training split."""

    def __init__(self, samples: Sequence[Sample], tokenizer: CaptionTokenizer, language: str = "") -> None:
        self.words = splitter(tokenizer.config.words)
        references = {
            sample.name: [[*self.words(c), END] for c in tokenizer.captions_in(language, sample.captions)]
            for sample in samples
        }
        self.tokenizer = tokenizer
        self.scorer = CiderD(DocumentFrequencies.of(list(references.values())))
        self.references = {name: self.scorer.vectors(group) for name, group in references.items()}

    def __call__(self, captions: Sequence[Sequence[Hypothesis]], names: Sequence[str]) -> Tensor:
        """Return the rewards (B, K), from 0 to 10."""
        return torch.tensor(
            [[self._score(caption, name) for caption in group] for name, group in zip(names, captions, strict=True)]
        )

    def _score(self, caption: Hypothesis, name: str) -> float:
        words = self.words(self.tokenizer.decode(caption.tokens))
        return self.scorer.score_vectors([*words, END] if caption.ended else words, self.references[name]) / 100


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return each reward minus the mean of the others of its image: (B, K), K at least 2, -> (B, K)."""
    others = rewards.shape[1] - 1
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / others


def seed_of(step: int, name: str) -> int:
    """Return the seed of an image's samples in a step, independent of the other images of the batch and process."""
    return int.from_bytes(hashlib.sha256(f"{step} {name}".encode(errors="surrogateescape")).digest()[:8], "big") >> 2
