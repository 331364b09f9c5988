"""What the loop asks of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captioner.config import CaptionerConfig, from_dict
from captioner.data.samples import Sample
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch, CaptionItems, Collate, Items, Vary, Views
from captioner.training.features import FeatureStore
from captioner.training.recipe import Recipe, Stage


@dataclass(frozen=True, kw_only=True)
class Data:
    """Everything a run learns from and is judged on while it learns. ``text`` has no images."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    text: tuple[str, ...] = ()
    validation_text: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """What most tasks take from ``Stage.options``."""


class Task(ABC):
    """One objective of the loop.

    ``Options`` is the dataclass of a task's own settings, those in ``Stage.options``. Validation scores of two tasks
    compare where their ``yardstick`` is the same.

    ``prepare`` works without gradient on the inner model (sampling, scoring); ``loss`` calls ``wrapped`` once, since a
    loss computed around the wrapper of a distributed run would train without synchronising.
    """

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        self.recipe, self.stage, self.data, self.tokenizer = recipe, stage, data, tokenizer

    wants_images = True
    yardstick = "captions"
    Options: type[Any] = NoOptions

    @classmethod
    def options_of(cls, stage: Stage) -> Any:
        """The task's own settings. Raises ``ConfigError`` for one that it does not know."""
        return from_dict(cls.Options, stage.options, where="options.")

    @classmethod  # noqa: B027 - most tasks want no more than images
    def check(cls, data: Data) -> None:
        """Raise ``DataError`` if this task cannot learn from ``data``."""

    @classmethod
    def taught(cls, config: CaptionerConfig) -> CaptionerConfig:
        """What a checkpoint of this ``config`` says of itself when this task has trained it."""
        return config

    @abstractmethod
    def items(self, store: FeatureStore | None) -> Items:
        """What an epoch goes through."""

    def lengths(self) -> Sequence[int] | None:
        """Tokens per item, where steps of one length are wanted."""
        return None

    def trained(self, name: str) -> bool:
        """Whether the parameter of this name takes part (a parameter without gradient would stall DDP)."""
        return True

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """The batch with all that is made without gradient."""
        return batch

    @abstractmethod
    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named sums over the batch's predicted words; ``loss`` is what is minimised, the others are logged."""

    @abstractmethod
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        """Figures on held-out data; ``score`` among them decides which weights are best (higher is better)."""

    def captions(
        self, samples: Sequence[Sample], store: FeatureStore | None, *, views: Views, vary: Vary | None = None
    ) -> CaptionItems:
        """The image items of these samples under the recipe."""
        return CaptionItems(
            samples,
            self.tokenizer,
            self.recipe.preprocess,
            captions_per_image=self.recipe.captions_per_image,
            context=self.recipe.decoder_config(1).context,
            views=views,
            store=store,
            vary=vary,
        )

    def collate(self, store: FeatureStore | None = None) -> Collate:
        """How items of this task become a batch."""
        ids = self.tokenizer.config
        kept = (store.grid, store.prefix) if store is not None else (None, 0)
        return Collate(ids.bos_id, ids.eos_id, ids.pad_id, *kept)


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sums over predicted words of weight x loss: with label smoothing (Szegedy et al. 2016, eq. 3), and without.

    ``logits`` (..., V); ``targets``, ``weights`` (...). Places of weight 0 cost nothing.
    """
    places = weights.flatten().nonzero().flatten()
    log_probs = logits.flatten(0, -2)[places].float().log_softmax(-1)  # (P, V)
    weight = weights.flatten()[places]
    nll = -log_probs.gather(1, targets.flatten()[places, None])[:, 0]  # (P,)
    plain = (weight * nll).sum()
    if not label_smoothing:
        return plain, plain
    uniform = (weight * -log_probs.mean(-1)).sum()
    return (1 - label_smoothing) * plain + label_smoothing * uniform, plain.detach()


def plain_nll(logits: Tensor, batch: Batch) -> tuple[float, float]:
    """(sum of -log p, number of predicted tokens) of a batch under its ``logits`` (..., V)."""
    _, nll = weighted_cross_entropy(logits, batch.targets, batch.weights)
    return float(nll), float(batch.weights.sum())
