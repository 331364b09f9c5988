"""The interface between the training loop and a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint
from captioner.config import CaptionerConfig, from_dict
from captioner.data.samples import Sample
from captioner.models.captioner import Captioner
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch, CaptionItems, Collate, Items, Vary, Views
from captioner.training.features import FeatureStore
from captioner.training.recipe import Recipe, Stage


@dataclass(frozen=True, kw_only=True)
class Data:
    """The training and validation data of a run.

    ``train`` may be larger than memory (``captioner.data.samples.Samples``): iterate over it, do not copy it.
    """

    train: Sequence[Sample]
    validation: tuple[Sample, ...]
    text: tuple[str, ...] = ()  # lines without images
    validation_text: tuple[str, ...] = ()
    repeats: Sequence[float] | None = None  # times that an epoch shows each training image, on average; None for once


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The empty ``Stage.options`` of most tasks."""


MODEL = "model"  # the captioner's name among the modules of a stage


def predicted_words(batch: Batch) -> Tensor:
    """Return the number of predicted words, the divisor of most losses."""
    return batch.weights.sum()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of every step with its own optimizer."""

    loss: Callable[[nn.Module, Batch], dict[str, Tensor]]  # called with the first wrapped module and the prepared batch
    trains: tuple[str, ...] = (MODEL,)  # names of the trained modules: MODEL or the task's own
    counts: Callable[[Batch], Tensor] = predicted_words  # the divisor of the sums in ``loss``
    lr: float | None = None  # peak learning rate; None for the stage's
    name: str = ""  # a prefix of the phase's figures in the log

    def label(self, figure: str) -> str:
        """Return the name of a figure of this phase in the log."""
        return f"{self.name}_{figure}" if self.name else figure


class Task(ABC):
    """One objective of the loop.

    ``prepare`` works without gradient on the inner model (sampling, scoring); ``loss`` calls ``wrapped`` once, since a
    loss computed around the wrapper of a distributed run would train without synchronising.

    A task that trains modules beside the captioner (a discriminator, a head) makes them in ``begin`` and puts them into
    ``own``; the loop moves, wraps, trains, saves and restores them. During a stage ``own`` holds the wrapped ones. They
    have no EMA, and a checkpoint does not hold them. A minimal task::

        class MyTask(CrossEntropy):
            def loss(self, wrapped, batch):
                logits = wrapped(batch.tokens, batch.image).logits
                loss, nll = weighted_cross_entropy(logits, batch.targets, batch.weights)
                return {"loss": loss, "nll": nll}
    """

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        """Raise the errors of a stage that cannot work: a run makes all its tasks before it begins."""
        self.recipe, self.stage, self.data, self.tokenizer = recipe, stage, data, tokenizer
        self.own: dict[str, nn.Module] = {}

    wants_images = True
    yardstick = "captions"  # validation scores are comparable between tasks with the same yardstick
    Options: type[Any] = NoOptions  # the dataclass of ``Stage.options``

    @classmethod
    def options_of(cls, stage: Stage) -> Any:
        """Return the task's own settings. Raises ``ConfigError`` for an unknown one."""
        return from_dict(cls.Options, stage.options, where="options.")

    @classmethod  # noqa: B027 - most tasks need only images
    def check(cls, data: Data) -> None:
        """Raise ``DataError`` if this task cannot learn from ``data``."""

    @classmethod
    def trained_config(cls, config: CaptionerConfig) -> CaptionerConfig:
        """Return the config of a checkpoint after this task has trained it."""
        return config

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Add the modules that this task trains to a captioner without them, and return whether any were added."""
        return False

    @abstractmethod
    def items(self, store: FeatureStore | None) -> Items:
        """Return the items of an epoch."""

    def lengths(self) -> Sequence[int] | None:
        """Return the length of each item, for steps of items of similar length; None for no sorting."""
        return None

    def repeats(self) -> Sequence[float] | None:
        """Return how often an epoch takes each item, on average; None for once."""
        return self.data.repeats if self.wants_images else None

    def trained(self, name: str) -> bool:
        """Return whether the parameter of this name takes part (a parameter without gradient would stall DDP)."""
        return not name.startswith(("heads.", "labeller.classify."))

    def begin(self, model: Captioner, average: Captioner) -> None:  # noqa: B027 - most tasks own nothing
        """Make the ``own`` modules of a stage. ``average``: the EMA of the weights of ``model``."""

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of a step, in order; by default one trains the captioner and all ``own`` modules."""
        return (Phase(loss=self.loss, trains=(MODEL, *self.own)),)

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Return the batch with all tensors that are computed without gradient.

        Draws depend on ``batch.seed`` and the names of the images alone, so several processes draw what one would.
        """
        return batch

    @abstractmethod
    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named sums over the batch's predicted words; the loop minimises ``loss`` and logs the others."""

    def watch(self, figures: Mapping[str, float]) -> str:
        """Return the reason why the stage must end after a step with these figures over all processes, or nothing."""
        return ""

    def state(self) -> dict[str, Any]:
        """Return the state of ``watch`` and ``prepare`` that a resumed run needs, without the ``own`` modules."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most tasks have no state
        """Restore a ``state``."""

    @abstractmethod
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        """Return figures on held-out data; the weights with the highest ``score`` are the best.

        All processes call it, and the first one's figures count; ``rank_share`` and ``gather_objects``
        (``distributed.py``) divide the work.
        """

    def captions(
        self, samples: Sequence[Sample], store: FeatureStore | None, *, views: Views, vary: Vary | None = None
    ) -> CaptionItems:
        """Return the image items of these samples under the recipe."""
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
        """Return the function that turns items of this task into a batch."""
        ids = self.tokenizer.config
        kept = store.of_no_image if store is not None else None
        return Collate(ids.bos_id, ids.eos_id, ids.pad_id, kept)


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return two sums of weight x loss: with label smoothing (Szegedy et al. 2016, eq. 3), and without.

    ``logits`` (..., V); ``targets``, ``weights`` (...). Places of weight 0 are not computed.
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


def features_of(model: Captioner, batch: Batch) -> Features:
    """Return the backbone's features of the batch's images, from the cache if it holds them."""
    image = cast(Tensor | Features, batch.image)
    return model.vision.finished(image) if isinstance(image, Features) else model.vision.features(image)


def named_by_captions(batch: Batch, count: int, find: Callable[[str], Collection[int]]) -> Tensor:
    """Return (B, G), 1 where any caption of the image names one of G things; ``find`` returns their indices."""
    named = torch.zeros(len(batch.captions), count)
    for row, captions in zip(named, batch.captions, strict=True):
        for caption in captions:
            row[list(find(caption))] = 1
    return named


def plain_nll(logits: Tensor, batch: Batch) -> tuple[float, float]:
    """Return (sum of -log p, number of predicted tokens) of a batch under its ``logits`` (..., V)."""
    _, nll = weighted_cross_entropy(logits, batch.targets, batch.weights)
    return float(nll), float(batch.weights.sum())
