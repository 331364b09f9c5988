"""What the loop asks of a task."""

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
    """Everything a run learns from and is judged on while it learns. ``text`` has no images.

    ``train`` may be longer than memory (``captioner.data.samples.Samples``): go through it, do not copy it.
    """

    train: Sequence[Sample]
    validation: tuple[Sample, ...]
    text: tuple[str, ...] = ()
    validation_text: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """What most tasks take from ``Stage.options``."""


MODEL = "model"  # the captioner among the modules of a stage


def predicted_words(batch: Batch) -> Tensor:
    """What the losses of most phases are sums over."""
    return batch.weights.sum()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of every step that has an optimizer of its own.

    It ``trains`` the captioner (``MODEL``) or some of the task's ``own`` modules, by name, and no others. ``loss`` gets
    the first of them as the loop has wrapped it, and the prepared batch; its sums are over what ``counts`` counts.
    ``lr`` stands in for the stage's rate. The phase's figures carry its ``name`` in the log.
    """

    loss: Callable[[nn.Module, Batch], dict[str, Tensor]]
    trains: tuple[str, ...] = (MODEL,)
    counts: Callable[[Batch], Tensor] = predicted_words
    lr: float | None = None
    name: str = ""

    def label(self, figure: str) -> str:
        """A figure of this phase as the log names it."""
        return f"{self.name}_{figure}" if self.name else figure


class Task(ABC):
    """One objective of the loop.

    ``Options`` is the dataclass of a task's own settings, those in ``Stage.options``. Validation scores of two tasks
    compare where their ``yardstick`` is the same.

    ``prepare`` works without gradient on the inner model (sampling, scoring); ``loss`` calls ``wrapped`` once, since a
    loss computed around the wrapper of a distributed run would train without synchronising.

    Most tasks need no more. One that trains modules beside the captioner (a discriminator, a head) makes them in
    ``begin`` and puts them into ``own``; the loop moves, wraps, trains, saves and restores them. During a stage ``own``
    holds the wrapped ones. They are not averaged, and a checkpoint does not hold them.
    """

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        """All tasks of a run are made before it begins: what cannot work is to be refused here."""
        self.recipe, self.stage, self.data, self.tokenizer = recipe, stage, data, tokenizer
        self.own: dict[str, nn.Module] = {}

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

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Before a run: give the captioner what this task trains and it lacks, if there is such a thing."""
        return False

    @abstractmethod
    def items(self, store: FeatureStore | None) -> Items:
        """What an epoch goes through."""

    def lengths(self) -> Sequence[int] | None:
        """Tokens per item, where steps of one length are wanted."""
        return None

    def trained(self, name: str) -> bool:
        """Return whether the parameter of this name takes part (a parameter without gradient would stall DDP)."""
        return not name.startswith(("heads.", "labeller.classify."))

    def begin(self, model: Captioner, average: Captioner) -> None:  # noqa: B027 - most tasks own nothing
        """Before a stage: make ``own`` modules. ``average`` follows the weights of ``model`` as ``stage.ema`` says."""

    def phases(self) -> tuple[Phase, ...]:
        """What a step does, in order: by default it trains the captioner and all ``own`` modules by ``loss``."""
        return (Phase(loss=self.loss, trains=(MODEL, *self.own)),)

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """The batch with all that is made without gradient."""
        return batch

    @abstractmethod
    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named sums over the batch's predicted words; ``loss`` is what is minimised, the others are logged."""

    def watch(self, figures: Mapping[str, float]) -> str:
        """After each step, with its figures over all processes: a sentence where the stage has to end now, and why."""
        return ""

    def state(self) -> dict[str, Any]:
        """What ``watch`` and ``prepare`` have to know again when a stopped run goes on; ``own`` modules apart."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most tasks remember nothing
        """The inverse of ``state``."""

    @abstractmethod
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        """Figures on held-out data; ``score`` among them decides which weights are best (higher is better).

        All processes call it, and those of the first one count; ``ranks.my_part`` and ``gathered`` share the work.
        """

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
        kept = store.of_no_image if store is not None else None
        return Collate(ids.bos_id, ids.eos_id, ids.pad_id, kept)


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


def features_of(model: Captioner, batch: Batch) -> Features:
    """Return the backbone's features of the batch's images, kept or computed."""
    image = cast(Tensor | Features, batch.image)
    return model.vision.finished(image) if isinstance(image, Features) else model.vision.features(image)


def named_by_captions(batch: Batch, count: int, find: Callable[[str], Collection[int]]) -> Tensor:
    """Return (B, G), 1 where any caption of the image names one of G things, whose places ``find`` gives."""
    named = torch.zeros(len(batch.captions), count)
    for row, captions in zip(named, batch.captions, strict=True):
        for caption in captions:
            row[list(find(caption))] = 1
    return named


def plain_nll(logits: Tensor, batch: Batch) -> tuple[float, float]:
    """(sum of -log p, number of predicted tokens) of a batch under its ``logits`` (..., V)."""
    _, nll = weighted_cross_entropy(logits, batch.targets, batch.weights)
    return float(nll), float(batch.weights.sum())
