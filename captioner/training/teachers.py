"""ImageNet's classes as everyday labels, and a classifier of them as a teacher of labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from captioner.errors import ConfigError
from captioner.models.backbones import backbone_args
from captioner.models.captioner import Captioner
from captioner.models.classifier import class_sums
from captioner.models.halves import same_but_for_rounding
from captioner.models.vision import Features, VisionEncoder
from captioner.training.batches import Batch
from captioner.training.pretrained import load_backbone, read_classifier

LISTS = Path(__file__).parent / "labels"


class ImageNetTeacher:
    """The probability of each label in a photo, by the ImageNet classifier in a timm weight file.

    The probabilities of the classes that belong to a label are summed; a label without classes has 0. A backbone that
    is being trained no longer has the features of the classifier, so the teacher then has its own, from the same file.
    """

    def __init__(self, model: Captioner, path: Path, words: Sequence[str], *, frozen: bool) -> None:
        """Read the classifier and its backbone, which is that of ``model`` if it is ``frozen``.

        Raises ``ConfigError`` or ``CheckpointError`` for a file that does not fit.
        """
        config, device = model.config, next(model.parameters()).device
        weight, bias = read_classifier(path, model.vision.channels)
        sums = class_sums(label_classes(words), len(bias))  # (N, G)
        self.weight, self.bias, self.sums = weight.to(device), bias.to(device), sums.to(device)
        self.vision: VisionEncoder = copy.deepcopy(model.vision).requires_grad_(False).eval()
        args = backbone_args(config.vision, config.preprocess)
        load_backbone(self.vision.backbone, config.vision.backbone, str(path), args)
        if frozen:
            own = model.vision.backbone.state_dict()
            if not all(same_but_for_rounding(own[k], v) for k, v in self.vision.backbone.state_dict().items()):
                raise ConfigError(
                    f"the frozen backbone does not have the weights in {path}, whose classifier cannot read it; leave "
                    "options.teacher out, or start from these weights"
                )
            self.vision = model.vision

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the probabilities (B, G) of the labels in the photos of a batch."""
        image = cast(Tensor | Features, batch.image)
        features = self.vision.finished(image) if isinstance(image, Features) else self.vision.features(image)
        pooled = features.values[:, features.prefix :].float().mean(1)  # (B, C)
        classes = (pooled @ self.weight.T + self.bias).softmax(-1)  # (B, N)
        return (classes @ self.sums).clamp(max=1)


def label_classes(words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the ImageNet classes of each of ``words``; none for an unknown one."""
    groups = imagenet_groups(words)
    return tuple(tuple(groups.get(label, ())) for label in range(len(words)))


def imagenet_groups(words: Sequence[str]) -> dict[int, list[int]]:
    """Return the ImageNet classes (0 to 999, in the order of their WordNet ids) of each known one of ``words``."""
    place = {word: n for n, word in enumerate(words)}
    groups: dict[int, list[int]] = {}
    for line in (LISTS / "imagenet.txt").read_text(encoding="utf-8").splitlines():
        word, _, ranges = line.partition(": ")
        if word in place:
            ends = [[int(end) for end in part.split("-")] for part in ranges.split()]
            groups[place[word]] = [n for pair in ends for n in range(pair[0], pair[-1] + 1)]
    return groups
