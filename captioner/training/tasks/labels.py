"""Captioning with labels: the model predicts labels of an image, and the decoder reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint
from captioner.config import LabelsConfig
from captioner.errors import ConfigError, UsageError
from captioner.metrics.nouns import LabelFinder, label_words
from captioner.models.captioner import Captioner, Outputs
from captioner.models.decoder import ImageMemory
from captioner.models.labels import Labeller, LabelQuery
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.classifier import add_classifier
from captioner.training.distributed import gather_objects
from captioner.training.features import FeatureStore
from captioner.training.pretrained import read_classifier
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, features_of, named_by_captions, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.tasks.exchange import LabelExchange, exchange_for
from captioner.training.teachers import LISTS, ImageNetTeacher, imagenet_groups


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the task labels. A captioner with a labeller keeps its words."""

    words: str = "everyday"  # a shipped list of labels, or a file of one label a line
    count: int = 8  # label tokens per image
    classifier: str = ""
    """A file with ``classifier.weight`` and ``classifier.bias`` of an ImageNet classifier on the same backbone, which
    initialise the labels."""
    weight: float = 1.0  # weight of the labels' loss, in nats per image; the captions' loss has 1
    teacher: float = 0.0
    """Share of the ImageNet classifier's probability that a label without a mention has as its target. With it, labels
    that no training caption names keep what ``classifier`` knows."""
    kept: bool = False
    """Keep the classifier in the captioner, with the backbone's blocks as they are in that file above those that the
    captioner did not train. A label that captions seldom name has the larger of the two probabilities. Set it after the
    stages that train the backbone."""
    exchanged: float = 0.0
    """Share of the images whose captions and label tokens name another label than the photo shows (``LabelExchange``),
    which teaches the decoder to write labels that no training caption names."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.weight < float("inf"):
            raise ConfigError("options.count must be at least 1, and options.weight above 0")
        for name in ("teacher", "exchanged"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"options.{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("teacher", "kept"):
            if getattr(self, name) and not self.classifier:
                raise ConfigError(f"options.{name} needs an ImageNet classifier; set options.classifier to its file")


class Labels(CrossEntropy):
    """Cross-entropy of captions, and binary cross-entropy of the labels in an image's captions."""

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.finder: LabelFinder | None = None
        self.teacher: ImageNetTeacher | None = None
        self.exchange: LabelExchange | None = None
        self.hits: list[tuple[int, int, int]] = []

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Add a labeller to a captioner without one."""
        if recipe.adapter is not None:
            raise UsageError("labels trains a labeller, which an adapter run cannot train; leave the adapter out")
        options: Options = cls.options_of(stage)
        added = equipped(checkpoint, options.words, options.count, options.classifier, seed=recipe.seed)
        assert checkpoint.model.config.labels is not None
        if options.kept and checkpoint.model.config.labels.classifier is None:
            add_classifier(checkpoint.model, Path(options.classifier), data.train)
            added = True
        return added

    def trained(self, name: str) -> bool:
        return not name.startswith("heads.")

    def begin(self, model: Captioner, average: Captioner) -> None:
        assert model.config.labels is not None
        self.finder = LabelFinder(model.config.labels.words)
        if self.options.teacher:
            path, words = Path(self.options.classifier), model.config.labels.words
            self.teacher = ImageNetTeacher(model, path, words, frozen=self.stage.vision == "frozen")
        if self.options.exchanged:
            self.exchange = exchange_for(model, self.tokenizer, self.collate(), self.options.exchanged)

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Add the targets (B, G) of the labels: 1 if a caption of the image names it, else the teacher's share.

        With ``exchanged``, some captions then name another label, which the decoder reads too.
        """
        labels = self._named(batch).to(batch.tokens.device)
        if self.stage.vision == "frozen" and (self.teacher is not None or self.exchange is not None):
            batch = replace(batch, image=features_of(model, batch))  # computed once, for all three readers
        if self.teacher is not None:
            labels = torch.maximum(labels, self.options.teacher * self.teacher(batch))
        batch = replace(batch, extra={**batch.extra, "labels": labels})
        return self.exchange(model, batch) if self.exchange is not None else batch

    def _named(self, batch: Batch) -> Tensor:
        assert self.finder is not None
        return named_by_captions(batch, len(self.finder.labels), self.finder.find)

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        output: Outputs = wrapped(batch.tokens, batch.image, LabelQuery(batch.extra.get("given")))
        assert output.labels is not None
        smoothed, nll = weighted_cross_entropy(
            output.logits, batch.targets, batch.weights, label_smoothing=self.stage.label_smoothing
        )
        labels = F.binary_cross_entropy_with_logits(output.labels, batch.extra["labels"], reduction="sum")
        return {"loss": smoothed + self.options.weight * labels, "nll": nll, "labels": labels.detach()}

    def collect_figures(self, model: Captioner, encoded: EncodedImage, memory: ImageMemory, batch: Batch) -> None:
        """Count the named labels of held-out images, the label tokens, and the right ones among them."""
        assert encoded.labels is not None
        assert model.labeller is not None
        named = self._named(batch)
        best = encoded.labels.topk(model.labeller.count, dim=1).indices.cpu()
        self.hits.append((int(named.gather(1, best).sum()), int(named.sum()), best.numel()))

    @torch.inference_mode()
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        self.hits = []
        figures = super().validate(model, store, device)
        right, named, shown = (
            sum(column) for column in zip(*(h for p in gather_objects(self.hits) for h in p), strict=True)
        )
        return {**figures, "label_recall": 100 * right / max(named, 1), "label_precision": 100 * right / max(shown, 1)}


def equipped(checkpoint: Checkpoint, words: str, count: int, classifier: str, *, seed: int) -> bool:
    """Add a labeller to a captioner without one, and return whether it was added; see ``Options`` for the values."""
    if checkpoint.model.labeller is not None:
        return False
    names = read_words(words)
    tokens = tuple(tuple(checkpoint.tokenizer.encode(word)) for word in names)
    torch.manual_seed(seed)
    checkpoint.model.add_labeller(LabelsConfig(words=names, tokens=tokens, count=count, scaled=True))
    if classifier:
        weight, bias = read_classifier(Path(classifier), checkpoint.model.vision.channels)
        labeller: Labeller = checkpoint.model.labeller  # type: ignore[assignment]
        labeller.initialise(weight, bias, imagenet_groups(names))
    return True


def read_words(name: str) -> tuple[str, ...]:
    """Return the labels of a shipped list or of a file, in its order. Raises ``ConfigError``."""
    path = LISTS / f"{name}.txt" if "/" not in name and not name.endswith(".txt") else Path(name)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the labels {name} cannot be read ({error}); name a UTF-8 file of one label a line"
        ) from None
    words = tuple(dict.fromkeys(" ".join(line.lower().split()) for line in lines if line.strip()))
    if not words:
        raise ConfigError(f"the labels {name} are empty; name a UTF-8 file of one label a line")
    for word in words:
        if not label_words(word):
            raise ConfigError(f"the label {word!r} in {name} has no letters, so no caption names it; remove it")
    return words
