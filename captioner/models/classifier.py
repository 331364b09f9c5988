"""A classifier of images into many classes, as a second source of labels.

The upper blocks of a captioner's backbone are trained on captions, which name few things, and forget the classes that
the backbone was pre-trained on. The classifier keeps the upper blocks as they were, on the lower blocks of the
captioner, which did not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captioner.config import ClassifierConfig, PreprocessConfig, VisionConfig
from captioner.models.backbones import build_backbone
from captioner.models.halves import UpperHalf
from captioner.models.vision import Features, block_input

SLOPE = 0.72
"""Log-odds that captions name a label, for each unit of the log-odds of its classes, fitted on 6,000 training photos.
Captions named 20 % of the labels with probability 0.1 to 0.15 and 77 % of those with 0.7 to 0.9 (docs/labels.md)."""
LEAST, MOST = 1e-5, 1 - 1e-4
UNKNOWN = -20.0  # log-odds of a label that no class stands for


def class_sums(classes: Sequence[Sequence[int]], count: int) -> Tensor:
    """Return the matrix (N, G) that sums the probabilities of ``count`` classes by the ``classes`` of each label."""
    sums = torch.zeros(count, len(classes))
    for label, own in enumerate(classes):
        sums[list(own), label] = 1
    return sums


class LabelClassifier(nn.Module):
    """The output of shared lower blocks -> log-odds of the labels (B, G).

    The probability of a label is the sum of those of its classes.

    sums: (N, G), 1 for a class of a label.
    known: (G,), whether a label has a class.
    """

    sums: Tensor
    known: Tensor

    def __init__(self, config: ClassifierConfig, vision: VisionConfig, preprocess: PreprocessConfig) -> None:
        super().__init__()
        backbone: Any = build_backbone(vision, preprocess)
        self.upper = UpperHalf(backbone, config.blocks).to(memory_format=torch.channels_last)
        self.classify = nn.Linear(backbone.num_features, config.count)
        sums = class_sums(config.classes, config.count)
        self.register_buffer("sums", sums, persistent=False)
        self.register_buffer("known", sums.any(0), persistent=False)
        self.eval()  # in training mode, its batch norms would forget their statistics

    def train(self, mode: bool = True) -> LabelClassifier:
        """Stay in eval mode: the classifier is not trained."""
        return super().train(False)

    def forward(self, lower: Features) -> Tensor:
        """Return the log-odds (B, G) of the labels from the output of the shared blocks."""
        lower = replace(lower, values=lower.values.float())
        out = self.upper(block_input(lower, self.upper))
        pooled = out.mean((2, 3)) if self.upper.maps else out[:, lower.prefix :].mean(1)  # (B, C)
        probabilities = self.classify(pooled).float().softmax(-1) @ self.sums  # (B, G)
        log_odds = SLOPE * probabilities.clamp(LEAST, MOST).logit()
        return torch.where(self.known, log_odds, UNKNOWN)
