"""An ImageNet classifier for a captioner that labels photos, beside the blocks that its captions have changed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from captioner.config import ClassifierConfig
from captioner.data.samples import Sample
from captioner.errors import ConfigError
from captioner.metrics.nouns import LabelFinder
from captioner.models.backbones import backbone_args, build_backbone
from captioner.models.captioner import Captioner
from captioner.models.halves import UpperHalf, equal_blocks
from captioner.training.pretrained import load_backbone, read_classifier
from captioner.training.teachers import label_classes

TAUGHT = 0.02
"""Share of the captioned images, from which on captions teach a label better than the classifier knows it."""


def add_classifier(model: Captioner, path: Path, captioned: Iterable[Sample] = ()) -> None:
    """Add the ImageNet classifier in a timm weight file, and its upper blocks, to a captioner with a labeller.

    It keeps the classes of the labels that the captions of less than ``TAUGHT`` of the ``captioned`` images name; the
    labeller knows the others better. The captioner and the classifier share the lower blocks that are equal in both.
    Label tokens that the decoder cannot read (``LabelsConfig.scaled``) start anew. Raises ``ConfigError`` for a file of
    another backbone, and for a captioner whose first block differs.
    """
    config = model.config
    assert config.labels is not None
    assert model.labeller is not None
    weight, bias = read_classifier(path, model.vision.channels)
    backbone = build_backbone(config.vision, config.preprocess)
    load_backbone(backbone, config.vision.backbone, str(path), backbone_args(config.vision, config.preprocess))
    blocks = equal_blocks(model.vision.backbone, backbone)
    if not blocks:
        raise ConfigError(
            f"the captioner's backbone has no block in common with {path}, so it cannot share one with the classifier; "
            "name the weights that its training started from"
        )
    taught = often_named(config.labels.words, captioned)
    groups = label_classes(config.labels.words)
    classes = tuple(() if often else group for group, often in zip(groups, taught, strict=True))
    unread = () if config.labels.scaled else ("proj.", "confidence.")
    old = {name: value for name, value in model.labeller.state_dict().items() if not name.startswith(unread)}
    added = ClassifierConfig(blocks=blocks, count=len(bias), classes=classes)
    model.add_labeller(replace(config.labels, scaled=True, classifier=added))
    model.labeller.load_state_dict(old, strict=False)
    classifier = model.labeller.classifier
    assert classifier is not None
    classifier.upper.load_state_dict(UpperHalf(backbone, blocks).state_dict())
    classifier.classify.load_state_dict({"weight": weight, "bias": bias})


def often_named(words: Sequence[str], captioned: Iterable[Sample]) -> list[bool]:
    """Return whether the captions of at least ``TAUGHT`` of some images name each of ``words``; False without any."""
    finder, images = LabelFinder(words), 0
    counts = [0] * len(words)
    for sample in captioned:
        images += 1
        for label in {label for caption in sample.captions for label in finder.find(caption)}:
            counts[label] += 1
    return [images > 0 and count >= TAUGHT * images for count in counts]


def copy_trained_blocks(model: Captioner, trained: Iterable[str]) -> None:
    """Give the classifier of ``model`` its own copy of each shared block from the first ``trained`` one on.

    ``trained`` are names of the backbone's parameters. A captioner without a classifier stays as it is. The layers
    before the second block stay shared.
    """
    labels = model.config.labels
    if labels is None or labels.classifier is None:
        return
    shared = labels.classifier.blocks
    blocks = max(1, min([shared, *(int(name.split(".")[1]) for name in trained if name.startswith("blocks."))]))
    if blocks == shared:
        return
    assert model.labeller is not None
    classifier = model.labeller.classifier
    assert classifier is not None
    own = copy.deepcopy(UpperHalf(model.vision.backbone, blocks).blocks[: shared - blocks])
    upper = nn.ModuleList([*own, *classifier.upper.blocks]).eval()
    classifier.upper.blocks = upper.to(memory_format=torch.channels_last)
    model.config = replace(model.config, labels=replace(labels, classifier=replace(labels.classifier, blocks=blocks)))
    model.vision.shared_blocks = blocks
