"""Self-critical training: captions that the model draws itself, weighted by how much better than usual they score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import GenerationConfig, SamplingConfig
from captioner.errors import ConfigError, DataError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.search import search
from captioner.metrics.cider import CiderD, DocumentFrequencies
from captioner.metrics.words import words
from captioner.models.captioner import Captioner
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy

END = "<eos>"  # a word of the reward: without it a caption gains by breaking off


@dataclass(frozen=True, kw_only=True)
class Options:
    """``samples`` captions are drawn of each image. ``human``: weight of the cross-entropy of the human captions beside
    them, which keeps the language from narrowing to what pays."""

    samples: int = 5
    human: float = 0.2

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigError(
                f"options.samples must be at least 2, each being judged by the others, not {self.samples}"
            )
        if self.human < 0:
            raise ConfigError(f"options.human must be 0 or more, not {self.human}")


class SelfCritical(CrossEntropy):
    """Policy gradient on CIDEr-D (Rennie et al. 2017, arXiv 1612.00563, eq. 8); the baseline is the mean reward of the
    image's other samples (Luo 2020, arXiv 2003.09971). Document frequencies are those of the training split.
    """

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        references = {sample.name: [[*words(c), END] for c in sample.captions] for sample in data.train}
        self.reward = CiderD(DocumentFrequencies.of(list(references.values())))
        self.references = {name: self.reward.vectors(group) for name, group in references.items()}

    @classmethod
    def check(cls, data: Data) -> None:
        names = [sample.name for sample in data.train]
        if len(set(names)) < len(names):
            raise DataError("self_critical knows an image by its name, and training images share some; rename them")

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Drawn captions with their advantages, and behind them the human ones with their weight."""
        drawn = self._draw(model, batch)
        tokens, targets, weights = self.collate().filled([[h.tokens for h in of_image] for of_image in drawn])
        for b, of_image in enumerate(drawn):
            for k, caption in enumerate(of_image):
                weights[b, k, caption.length :] = 0  # a caption that was cut has not chosen its end
        rewards = torch.tensor(
            [[self._reward(h, name) for h in of_image] for name, of_image in zip(batch.names, drawn, strict=True)]
        )  # (B, K), on the scale of 0 to 100
        advantages = leave_one_out(rewards / 100)
        words_drawn = weights.sum()
        if self.options.human:
            length = max(tokens.shape[2], batch.tokens.shape[2])
            human = torch.full(batch.tokens.shape[:2], self.options.human)
            pad = self.tokenizer.config.pad_id
            pairs = ((tokens, batch.tokens, pad), (targets, batch.targets, pad), (weights, batch.weights, 0))
            tokens, targets, weights = (
                torch.cat(
                    [F.pad(part, (0, length - part.shape[2]), value=fill) for part in (ours, theirs.cpu())], dim=1
                )
                for ours, theirs, fill in pairs
            )
            advantages = torch.cat([advantages, human], dim=1)
        count = weights.sum()
        figures = {
            "reward": rewards.mean() * count,
            "drawn_tokens": words_drawn / rewards.numel() * count,
        }
        return replace(
            batch, tokens=tokens, targets=targets, weights=weights, advantages=advantages, figures=figures
        ).to(batch.tokens.device)

    def _draw(self, model: Captioner, batch: Batch) -> list[list[Hypothesis]]:
        training = model.training
        model.eval()
        image = cast(Tensor | Features, batch.image)
        encoded = model.vision.tokens(image) if isinstance(image, Features) else model.encode_image(image)
        seeds = torch.randint(2**62, (len(batch.names),)).tolist()  # of the generator that a saved state restores
        config = GenerationConfig(
            sampling=SamplingConfig(), candidates=self.options.samples, max_tokens=self.recipe.generation.max_tokens
        )
        found = search(model.decoder, model.remember(encoded), self.tokenizer.config, config, seeds=seeds)
        model.train(training)
        return found

    def _reward(self, caption: Hypothesis, name: str) -> float:
        said = words(self.tokenizer.decode(caption.tokens))
        ended = caption.length > len(caption.tokens)
        return self.reward.score_vectors([*said, END] if ended else said, self.references[name])

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        advantages = cast(Tensor, batch.advantages)
        loss, _ = weighted_cross_entropy(
            wrapped(batch.tokens, batch.image), batch.targets, batch.weights * advantages[..., None]
        )
        return {"loss": loss}


def leave_one_out(rewards: Tensor) -> Tensor:
    """Each reward less the mean of the others of its image. ``rewards`` (B, K), K at least 2, -> (B, K)."""
    others = rewards.shape[1] - 1
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / others
