"""Tells what people say of an image from what they do not: the adversary of the captioner that it begins as."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from captioner.models.captioner import Captioner
from captioner.models.vision import EncodedImage, Features


class Discriminator(nn.Module):
    """Backbone features and captions -> how sure it is that people wrote this caption of this image.

    A decoder with one verdict in place of a word's logits, read where the caption ends. It begins as a copy of the
    captioner's own decoder, which knows words and where to look for them, and need not learn this from the few images
    of a run. Dai et al. 2017 (arXiv 1703.06029) compare one vector of the image with one of the sentence; here every
    word reads the patches.
    """

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.vision = copy.deepcopy(model.vision)
        self.vision.backbone = nn.Identity()  # its features are given
        self.decoder = copy.deepcopy(model.decoder)
        self.decoder.lm_head = nn.Linear(model.config.decoder.width, 1)
        nn.init.zeros_(self.decoder.lm_head.weight)  # undecided at first
        nn.init.zeros_(self.decoder.lm_head.bias)
        self.requires_grad_(True)

    def forward(self, values: Tensor, grid: tuple[int, int], prefix: int, captions: Tensor, ends: Tensor) -> Tensor:
        """Log-odds (B, K), fp32.

        ``values`` (B, S, C) are the backbone's, with their ``grid`` and ``prefix``; ``captions`` (B, K, T) token ids
        with start and end; ``ends`` (B, K) the places of their last tokens.
        """
        encoded: EncodedImage = self.vision.tokens(Features(values, grid, prefix))
        verdicts = self.decoder(captions.flatten(0, 1), self.decoder.remember(encoded))[..., 0]  # (B * K, T)
        return verdicts.gather(1, ends.flatten()[:, None])[:, 0].view(ends.shape).float()  # (B, K)


def whole_captions(tokens: Tensor, targets: Tensor, weights: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Captions with start and end, at most ``context`` long, and where each ends; from what a step predicts.

    ``tokens``, ``targets``, ``weights`` (B, K, T) as in a batch. A caption that was cut has no end token.
    """
    whole = torch.cat([tokens[..., :1], targets], dim=-1)[..., :context]  # (B, K, T + 1)
    return whole, (weights > 0).sum(-1).clamp(max=whole.shape[-1] - 1)
