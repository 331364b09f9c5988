"""A discriminator between human and generated captions of an image, the captioner's adversary in training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from captioner.models.captioner import Captioner
from captioner.models.vision import EncodedImage, Features


class Discriminator(nn.Module):
    """A classifier of backbone features and captions: log-odds that people wrote this caption of this image.

    A decoder with one output instead of a vocabulary, read at the end of the caption. It starts as a copy of the
    captioner's decoder, which already knows language and how to attend to patches, because a run has too few images to
    learn them. Dai et al. 2017 (arXiv 1703.06029) compare one image embedding with one sentence embedding; here every
    token attends to the patches.
    """

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.vision = copy.deepcopy(model.vision)
        self.vision.backbone = nn.Identity()  # the input is already backbone features
        self.decoder = copy.deepcopy(model.decoder)
        self.decoder.lm_head = nn.Linear(model.config.decoder.width, 1)
        nn.init.zeros_(self.decoder.lm_head.weight)  # undecided at first
        nn.init.zeros_(self.decoder.lm_head.bias)
        self.requires_grad_(True)

    def forward(self, values: Tensor, grid: tuple[int, int], prefix: int, captions: Tensor, ends: Tensor) -> Tensor:
        """Return the log-odds (B, K), fp32.

        ``values`` (B, S, C): backbone features, with their ``grid`` and ``prefix``. ``captions`` (B, K, T): token ids
        with start and end. ``ends`` (B, K): positions of the last tokens.
        """
        encoded: EncodedImage = self.vision.tokens(Features(values, grid, prefix))
        verdicts = self.decoder(captions.flatten(0, 1), self.decoder.remember(encoded))[..., 0]  # (B * K, T)
        return verdicts.gather(1, ends.flatten()[:, None])[:, 0].view(ends.shape).float()  # (B, K)


def whole_captions(tokens: Tensor, targets: Tensor, weights: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Return captions with start and end, at most ``context`` long, and the position of each last token.

    ``tokens``, ``targets``, ``weights`` (B, K, T) as in a batch. A truncated caption has no end token.
    """
    whole = torch.cat([tokens[..., :1], targets], dim=-1)[..., :context]  # (B, K, T + 1)
    return whole, (weights > 0).sum(-1).clamp(max=whole.shape[-1] - 1)
