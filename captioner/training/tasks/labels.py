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
from captioner.models.labels import Labeller
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.distributed import gather_objects
from captioner.training.features import FeatureStore
from captioner.training.pretrained import read_classifier
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, features_of, named_by_captions, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy
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

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.weight < float("inf"):
            raise ConfigError("options.count must be at least 1, and options.weight above 0")
        if not 0 <= self.teacher <= 1:
            raise ConfigError(f"options.teacher must lie between 0 and 1, not {self.teacher}")
        if self.teacher and not self.classifier:
            raise ConfigError("options.teacher needs an ImageNet classifier; set options.classifier to its file")


class Labels(CrossEntropy):
    """Cross-entropy of captions, and binary cross-entropy of the labels in an image's captions."""

    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.finder: LabelFinder | None = None
        self.teacher: ImageNetTeacher | None = None
        self.hits: list[tuple[int, int, int]] = []

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Add a labeller to a captioner without one."""
        if recipe.adapter is not None:
            raise UsageError("labels trains a labeller, which an adapter run cannot train; leave the adapter out")
        options = cls.options_of(stage)
        return equipped(checkpoint, options.words, options.count, options.classifier, seed=recipe.seed)

    def trained(self, name: str) -> bool:
        return not name.startswith("heads.")

    def begin(self, model: Captioner, average: Captioner) -> None:
        assert model.config.labels is not None
        self.finder = LabelFinder(model.config.labels.words)
        if self.options.teacher:
            path, words = Path(self.options.classifier), model.config.labels.words
            self.teacher = ImageNetTeacher(model, path, words, frozen=self.stage.vision == "frozen")

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """Add the targets (B, G) of the labels: 1 if a caption of the image names it, else the teacher's share."""
        labels = self._named(batch).to(batch.tokens.device)
        if self.teacher is not None:
            if self.stage.vision == "frozen":
                batch = replace(batch, image=features_of(model, batch))  # computed once, for teacher and captioner
            labels = torch.maximum(labels, self.options.teacher * self.teacher(batch))
        return replace(batch, extra={**batch.extra, "labels": labels})

    def _named(self, batch: Batch) -> Tensor:
        assert self.finder is not None
        return named_by_captions(batch, len(self.finder.labels), self.finder.find)

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        output: Outputs = wrapped(batch.tokens, batch.image, "labels")
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
    checkpoint.model.add_labeller(LabelsConfig(words=names, tokens=tokens, count=count))
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
