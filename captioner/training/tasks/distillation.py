"""Distillation: human captions, and a teacher's word distribution at each of their words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import load
from captioner.checkpoint.files import SHIPPED_NAME
from captioner.errors import ConfigError, TrainingError
from captioner.models.captioner import Captioner
from captioner.models.labels import LabelQuery
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, features_of, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.tasks.exchange import LabelExchange, exchange_for

AVERAGE = "average"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the task distillation."""

    teacher: str = AVERAGE
    """``average`` (the EMA of the weights, whose decay is the stage's ``ema``), or a checkpoint: a directory, a hub id
    or ``shipped``."""
    share: float = 0.5  # the teacher's share of the loss; the rest is the loss of the human captions
    temperature: float = 2.0  # temperature of both distributions
    top: int = 64  # the teacher's most probable words at each place, all others counting as one; 0 for all words
    exchanged: float = 0.0  # as for the task labels; the teacher does not count for these images

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"options.share must lie between 0 and 1, not {self.share:g}")
        if not 0 <= self.exchanged <= 1:
            raise ConfigError(f"options.exchanged must lie between 0 and 1, not {self.exchanged:g}")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"options.temperature must be above 0, not {self.temperature:g}")
        if self.top < 0:
            raise ConfigError(f"options.top must be 0 or more, not {self.top}")


class Distillation(CrossEntropy):
    """Cross-entropy mixed with the Kullback-Leibler divergence from a teacher.

    The loss is that of Hinton et al. 2015 (arXiv 1503.02531, section 2); the default teacher is the mean teacher
    (Tarvainen and Valpola 2017, arXiv 1703.01780; for captions Barraco et al. 2022, arXiv 2202.10492).

    The teacher reads the same view of a photo as the student, without dropout: another crop would show it another
    picture (Beyer et al. 2022, arXiv 2106.05237), and the run would have to load a second view.
    """

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.teacher: Captioner | None = None
        self.exchange: LabelExchange | None = None
        self.shares_backbone = False  # student and teacher have the same one, and each photo is encoded once
        if self.options.teacher != AVERAGE:
            self.teacher = _teacher(self.options.teacher, recipe, tokenizer)

    @classmethod
    def options_of(cls, stage: Stage) -> Any:
        options: Options = super().options_of(stage)
        if options.teacher == AVERAGE and not stage.ema:
            raise ConfigError(
                "distillation from the EMA of the weights needs an EMA; set ema = 0.998, or name a checkpoint as "
                "options.teacher"
            )
        if options.teacher != AVERAGE and stage.cache_features and stage.vision != "frozen":
            raise ConfigError(
                "a teacher reads cached features only of its own backbone, which this stage trains; set vision = "
                "'frozen', or cache_features = false"
            )
        return options

    def begin(self, model: Captioner, average: Captioner) -> None:
        if self.options.teacher == AVERAGE:
            self.teacher = average
        assert self.teacher is not None
        self.teacher.to(next(model.parameters()).device).eval()
        self.shares_backbone = self.stage.vision == "frozen" and _same_backbone(model, self.teacher)
        if self.options.exchanged:
            self.exchange = exchange_for(model, self.tokenizer, self.collate(), self.options.exchanged)
        if self.stage.cache_features and not self.shares_backbone:
            raise ConfigError(
                f"the teacher {self.options.teacher} has another backbone than the one whose features are cached; set "
                "cache_features = false"
            )

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Add the teacher's ids and log-probabilities (P, top) at every predicted word.

        With ``exchanged`` also the log-odds ``given`` (B, G) of label tokens, and ``taught`` (B, 1, 1): 0 for images
        whose captions name another label than the photo that the teacher sees, else 1.
        """
        assert self.teacher is not None
        if self.teacher.training:
            self.teacher.eval()
        if self.shares_backbone:
            batch = replace(batch, image=features_of(model, batch))
        extra = {}
        if self.exchange is not None:
            batch = self.exchange(model, batch)
            given = batch.extra["given"]
            extra = {"given": given, "taught": given.isnan().all(1)[:, None, None].float()}
        logits = at_places(self.teacher(batch.tokens, batch.image).logits, batch.weights)
        log_probs = (logits / self.options.temperature).log_softmax(-1)  # (P, V)
        likeliest = log_probs.topk(min(self.options.top or log_probs.shape[-1], log_probs.shape[-1]))
        return replace(batch, extra={"ids": likeliest.indices, "log_probs": likeliest.values, **extra})

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        options, given = self.options, batch.extra.get("given")
        logits = wrapped(batch.tokens, batch.image, None if given is None else LabelQuery(given)).logits
        smoothing = self.stage.label_smoothing
        every, nll = weighted_cross_entropy(logits, batch.targets, batch.weights, label_smoothing=smoothing)
        human = (1 - options.share) * every
        chosen = at_places(logits, batch.weights)  # (P, V)
        kl = divergence(
            batch.extra["log_probs"],
            (chosen / options.temperature).log_softmax(-1).gather(1, batch.extra["ids"]),
            whole=batch.extra["ids"].shape[1] == chosen.shape[1],
        )  # (P,)
        if (taught := batch.extra.get("taught")) is not None:  # for the other images human captions have both shares
            alone = batch.weights * (1 - taught)
            human = (
                human
                + options.share * weighted_cross_entropy(logits, batch.targets, alone, label_smoothing=smoothing)[0]
            )
            kl = kl * at_places(taught.expand_as(batch.weights)[..., None], batch.weights)[:, 0]
        kl = kl.sum()
        agreed = (chosen.argmax(-1) == batch.extra["ids"][:, 0]).sum()
        # A gradient at temperature T is 1 / T^2 as large (Hinton et al. 2015, section 2).
        loss = human + options.share * options.temperature**2 * kl
        return {"loss": loss, "nll": nll, "kl": kl.detach(), "agreement": 100.0 * agreed}

    def state(self) -> dict[str, Any]:
        return {"teacher": self._fingerprint()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if state["teacher"] != self._fingerprint():
            raise TrainingError(
                f"the teacher {self.options.teacher} has changed since the run began; restore its weights, or start "
                "again with another --out"
            )

    def _fingerprint(self) -> str:
        """Return the fingerprint of a checkpoint as teacher; the EMA is part of the run."""
        digest = hashlib.sha256()
        if self.options.teacher != AVERAGE and self.teacher is not None:
            for value in self.teacher.state_dict().values():
                digest.update(value.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def at_places(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the ``logits`` (B, K, T, V) of predicted words, (P, V), fp32."""
    return logits.flatten(0, -2)[weights.flatten().nonzero().flatten()].float()


def divergence(teacher: Tensor, student: Tensor, *, whole: bool) -> Tensor:
    """Return KL(teacher || student) (P,) of log-probabilities (P, k) of the same words.

    Unless these are the ``whole`` vocabulary, all other words count as one, with the remaining probability of each.
    """
    kl = (teacher.exp() * (teacher - student)).sum(-1)
    if whole:
        return kl
    rest_teacher, rest_student = _rest(teacher), _rest(student)
    return kl + rest_teacher.exp() * (rest_teacher - rest_student)


def _rest(log_probs: Tensor) -> Tensor:
    """Return log(1 - sum of the probabilities), (P,)."""
    return torch.log1p(-log_probs.exp().sum(-1).clamp(max=1 - 1e-6))


def _same_backbone(model: Captioner, teacher: Captioner) -> bool:
    """Return whether both captioners have a backbone of the same architecture and weights."""
    own, other = (m.vision.backbone.state_dict() for m in (model, teacher))
    if model.config.vision.backbone != teacher.config.vision.backbone or own.keys() != other.keys():
        return False
    return all(torch.equal(value, other[name]) for name, value in own.items())


def _teacher(source: str, recipe: Recipe, tokenizer: CaptionTokenizer) -> Captioner:
    """Return the model of a checkpoint with the tokenizer and preprocessing of the run. Raises ``ConfigError``."""
    checkpoint = load(None if source == SHIPPED_NAME else source)
    teacher_tokenizer, own_tokenizer = (
        (t.to_json(), replace(t.config, gap_id=None)) for t in (checkpoint.tokenizer, tokenizer)
    )
    if teacher_tokenizer != own_tokenizer:
        raise ConfigError(
            f"the teacher {source} has another tokenizer, so its word distributions are of other words; choose a "
            "checkpoint with the same tokenizer, such as the one that this run starts from"
        )
    if checkpoint.config.preprocess != recipe.preprocess:
        raise ConfigError(
            f"the teacher {source} has another [preprocess] ({checkpoint.config.preprocess.size} pixels, this run "
            f"{recipe.preprocess.size}); choose a checkpoint with the same one"
        )
    if checkpoint.config.decoder.context < recipe.decoder_config(1).context:
        raise ConfigError(
            f"the teacher {source} reads at most {checkpoint.config.decoder.context} tokens, this run's captions have "
            f"up to {recipe.decoder_config(1).context}; choose another teacher, or lower decoder.context"
        )
    return checkpoint.model.requires_grad_(False)
