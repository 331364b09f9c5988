"""Labels of an image, and label tokens that the decoder reads beside the patches.

A classifier names what an image shows; the most probable names become tokens of the decoder's memory. So the decoder
can write a word that it rarely saw in captions of photos (You et al. 2016, arXiv 1603.03925; Wu et al. 2016,
arXiv 1506.01144; Li et al. 2020, arXiv 2004.06165, object tags as anchor points).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from captioner.config import LabelsConfig
from captioner.models.vision import EncodedImage, Features

BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # probabilities between which a label token tells the decoder the same


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Logits of captions (B, K, T, V) and log-odds of labels (B, G), from one pass."""

    logits: Tensor
    labels: Tensor


class Labeller(nn.Module):
    """Features of an image -> log-odds of each label, and tokens of the most probable ones.

    The classifier reads the mean and the maximum of the features over the grid. A label token is the mean of the
    decoder's embeddings of the label's own tokens, projected, plus an embedding of how probable the label is. An image
    has ``count`` label tokens whatever it shows: the probability tells the decoder which ones to trust.
    """

    pieces: Tensor
    pieces_weight: Tensor
    borders: Tensor

    def __init__(self, config: LabelsConfig, channels: int, width: int) -> None:
        super().__init__()
        self.count = min(config.count, len(config.words))
        self.classify = nn.Linear(2 * channels, len(config.words))
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.constant_(self.classify.bias, -4.0)  # few of many labels are true: begin there (Lin et al. 2017, 3.3)
        self.proj = nn.Linear(width, width)
        self.confidence = nn.Embedding(len(BUCKETS) + 1, width)
        nn.init.normal_(self.confidence.weight, std=0.02)
        longest = max(map(len, config.tokens))
        pieces = torch.zeros(len(config.words), longest, dtype=torch.long)  # (G, P)
        weight = torch.zeros(len(config.words), longest)
        for place, tokens in enumerate(config.tokens):
            pieces[place, : len(tokens)] = torch.tensor(tokens)
            weight[place, : len(tokens)] = 1 / len(tokens)
        self.register_buffer("pieces", pieces, persistent=False)
        self.register_buffer("pieces_weight", weight, persistent=False)
        self.register_buffer("borders", torch.tensor(BUCKETS).logit(), persistent=False)

    def forward(self, features: Features) -> Tensor:
        """Log-odds of the labels (B, G), from features (B, S, C)."""
        patches = features.values[:, features.prefix :].float()  # (B, h * w, C)
        pooled = torch.cat([patches.mean(1), patches.amax(1)], dim=-1)  # (B, 2 C)
        return cast(Tensor, self.classify(pooled)).float()

    def tokens(self, labels: Tensor, log_odds: Tensor, embedding: nn.Embedding) -> Tensor:
        """Tokens (B, L, D) of ``labels`` (B, L), places in the list of words, with their ``log_odds`` (B, L)."""
        of_words = embedding(self.pieces[labels])  # (B, L, P, D)
        words = (of_words * self.pieces_weight[labels][..., None]).sum(2)  # (B, L, D)
        tokens: Tensor = self.proj(words) + self.confidence(torch.bucketize(log_odds, self.borders))
        return tokens

    def beside(self, encoded: EncodedImage, log_odds: Tensor, embedding: nn.Embedding) -> EncodedImage:
        """Return ``encoded`` with the tokens of the most probable labels before the patches; they have no place."""
        best, labels = log_odds.detach().topk(self.count, dim=1)  # (B, L)
        tokens = self.tokens(labels, best, embedding).to(encoded.tokens.dtype)
        return replace(
            encoded,
            tokens=torch.cat([tokens, encoded.tokens], dim=1),  # (B, L + S, D)
            prefix=self.count + encoded.prefix,
            labels=log_odds,
        )

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor, groups: dict[int, list[int]]) -> None:
        """Begin as a classifier (N, C), (N,) of the same features: a label is the mean of its group of classes."""
        centred, level = weight - weight.mean(0), bias - bias.mean()
        channels = weight.shape[1]
        for label, classes in groups.items():
            self.classify.weight[label, :channels] = centred[classes].mean(0)
            self.classify.bias[label] = level[classes].mean() - 4.0
