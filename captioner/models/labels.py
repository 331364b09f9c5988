"""Labels of an image, and label tokens that the decoder reads beside the patches.

A classifier predicts labels of an image, and the most probable labels become tokens of the decoder's memory. They let
the decoder write words that are rare in its training captions (You et al. 2016, arXiv 1603.03925; Wu et al. 2016,
arXiv 1506.01144; Li et al. 2020, arXiv 2004.06165, object tags as anchor points).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import DecoderConfig, LabelsConfig
from captioner.models.classifier import LabelClassifier
from captioner.models.decoder import Block, Decoder
from captioner.models.vision import EncodedImage, Features

RIDGE = 0.05  # of the inverse in ``align``, relative to the mean of its diagonal
LENGTH = 2.0  # of the projection's rows in ``align``: certain labels are then about twice as large as patches
BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # borders of the probability buckets of label tokens


@dataclass(frozen=True)
class LabelQuery:
    """A request for the log-odds of the labels beside the logits.

    given: (B, G) log-odds that choose the label tokens, in place of the labeller's; NaN where its own count.
    """

    given: Tensor | None = None


@dataclass(frozen=True)
class LabelSet:
    """Labels in place of B images, for a decoder that learns from captions without images."""

    labels: Tensor  # (B, L), indices of words
    log_odds: Tensor  # (B, L)


class Labeller(nn.Module):
    """A label classifier on image features, and an embedding of the most probable labels as tokens.

    The classifier reads the mean and the maximum of the features over the grid. A label token is the mean of the
    decoder's embeddings of the label's own tokens, projected, plus an embedding of its probability bucket. Every image
    has ``count`` label tokens; the probability tells the decoder which ones to trust.

    pieces: (G, P) token ids of each label, padded.
    pieces_weight: (G, P) weights of the mean over a label's tokens, 0 for padding.
    borders: ``BUCKETS`` as log-odds.
    """

    pieces: Tensor
    pieces_weight: Tensor
    borders: Tensor

    def __init__(
        self, config: LabelsConfig, channels: int, decoder: DecoderConfig, classifier: LabelClassifier | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.count, self.scaled = min(config.count, len(config.words)), config.scaled
        self.classify = nn.Linear(2 * channels, len(config.words))
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.constant_(self.classify.bias, -4.0)  # few of many labels are true (Lin et al. 2017, 3.3)
        self.proj = nn.Linear(decoder.width, decoder.patch_width)
        self.confidence = nn.Embedding(len(BUCKETS) + 1, decoder.patch_width)
        nn.init.normal_(self.confidence.weight, std=0.3)
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
        """Return the log-odds (B, G) of the labels from features (B, S, C): with a classifier the larger of the two."""
        patches = features.values[:, features.prefix :].float()  # (B, h * w, C)
        pooled = torch.cat([patches.mean(1), patches.amax(1)], dim=-1)  # (B, 2 C)
        log_odds = cast(Tensor, self.classify(pooled)).float()
        if self.classifier is None:
            return log_odds
        assert features.lower is not None
        return torch.maximum(log_odds, self.classifier(features.lower))

    def tokens(self, labels: Tensor, log_odds: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return the tokens (B, L, D') of ``labels`` (B, L), indices of words, with their ``log_odds`` (B, L)."""
        return self.with_confidence(self.words(labels, embedding), log_odds)

    def words(self, labels: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return the projected embeddings (B, L, D') of ``labels`` (B, L), indices of words."""
        pieces = embedding(self.pieces[labels])  # (B, L, P, D)
        words = (pieces * self.pieces_weight[labels][..., None]).sum(2)  # (B, L, D)
        return cast(Tensor, self.proj(F.layer_norm(words, words.shape[-1:]) if self.scaled else words))

    def with_confidence(self, words: Tensor, log_odds: Tensor) -> Tensor:
        """Return label tokens (B, L, D') from ``words`` (B, L, D') and the labels' ``log_odds`` (B, L)."""
        bucket = (log_odds[..., None] > self.borders).long().sum(-1)  # (B, L); ONNX has no bucketize
        weighted = words * log_odds.sigmoid()[..., None] if self.scaled else words
        return weighted + cast(Tensor, self.confidence(bucket))

    def with_label_tokens(
        self, encoded: EncodedImage, log_odds: Tensor, embedding: nn.Embedding, given: Tensor | None = None
    ) -> EncodedImage:
        """Return ``encoded`` with the tokens of the most probable labels before the patches, off the grid.

        ``log_odds`` (B, G) are the labeller's; ``given`` (B, G) choose the tokens in their place, except where NaN.
        """
        chosen = log_odds.detach()
        if given is not None:
            chosen = torch.where(given.isnan(), chosen, given)
        best, labels = chosen.topk(self.count, dim=1)  # (B, L)
        tokens = self.tokens(labels, best, embedding).to(encoded.tokens.dtype)
        return replace(
            encoded,
            tokens=torch.cat([tokens, encoded.tokens], dim=1),  # (B, L + S, D)
            prefix=self.count + encoded.prefix,
            labels=log_odds,
        )

    def label_tokens_alone(self, given: LabelSet, embedding: nn.Embedding) -> EncodedImage:
        """Return the tokens of the given labels as the encoding of images without patches."""
        tokens = self.tokens(given.labels, given.log_odds, embedding)
        return EncodedImage(tokens, (0, 0), prefix=tokens.shape[1])

    @torch.no_grad()
    def align(self, decoder: Decoder) -> None:
        """Start the projection where the cross-attention of ``decoder`` writes the embedding of a label that it reads.

        All layers together turn a token t that they attend to into M t, so the projection is the regularised inverse of
        M, and training need not find the way from a label to its word.
        """
        layers = [cast(Block, block).cross_attn for block in decoder.blocks]
        width = decoder.config.heads_width
        each = [x.out_proj.weight.float() @ x.kv_proj.weight[width:].float() for x in layers]
        written = torch.stack(each).sum(0)  # (D, D')
        gram = written.T @ written
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
        inverse = torch.linalg.solve(gram + ridge, written.T)  # (D', D)
        self.proj.weight.copy_(LENGTH * inverse / inverse.norm(dim=1).mean())
        self.proj.bias.zero_()

    @torch.no_grad()
    def initialise(self, weight: Tensor, bias: Tensor, groups: dict[int, list[int]]) -> None:
        """Initialise from a classifier (N, C), (N,) of the same features; a label is the mean of its class group."""
        centred, level = weight - weight.mean(0), bias - bias.mean()
        channels = weight.shape[1]
        for label, classes in groups.items():
            self.classify.weight[label, :channels] = centred[classes].mean(0)
            self.classify.bias[label] = level[classes].mean() - 4.0
