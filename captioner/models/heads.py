"""Heads on a captioner: image and text embeddings, image-text matching, tags.

They read values that the captioner computes anyway: the patch tokens of an image, and the decoder's state at the end
of a caption, after the text alone (for embeddings) or after text and image (for matching). This follows CoCa's
contrastive half (Yu et al. 2022, arXiv 2205.01917, section 3.2) and the image-text matching of ALBEF and BLIP (Li et
al. 2021, arXiv 2107.07651, section 3.2; Li et al. 2022, arXiv 2201.12086).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import DecoderConfig, HeadsConfig, TextConfig
from captioner.layers.attention import attend, merge_heads, split_heads
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage

LOSSES = ("caption", "contrastive", "matching", "tags")  # in the order of ``Heads.log_variances``
SLOWNESS = 0.1  # Adam's step size is the learning rate: a scalar that must move by whole units is stored as a tenth
MAX_LOGIT_SCALE = 100.0  # upper limit of the factor on cosines (Radford et al. 2021, section 2.5)


class AttentivePool(nn.Module):
    """Attention pooling: one learned query over all patch tokens (Lee et al. 2019, arXiv 1810.00825, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.kv_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool ``tokens`` (B, S, D) -> (B, D)."""
        q = split_heads(self.query.expand(tokens.shape[0], 1, -1), self.heads)  # (B, H, 1, Dh)
        k, v = (split_heads(part, self.heads) for part in self.kv_proj(tokens).chunk(2, dim=-1))
        return self.out_proj(merge_heads(attend(q.to(k.dtype), k, v)))[:, 0]  # (B, D)


class MeanPool(nn.Module):
    """Mean pooling over the patch tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool ``tokens`` (B, S, D) -> (B, D)."""
        return tokens.mean(dim=1)


class Heads(nn.Module):
    """The heads that ``HeadsConfig`` selects, for a decoder of the given sizes. They are small and stay in fp32.

    pool, image_proj: From patch tokens to an image embedding.
    text_proj: From a decoder state to a text embedding.
    match: Log-odds that a caption is true of an image; None without ``config.matching``.
    tag: Log-odds of each tag; None without ``config.tags``.
    log_variances: Learned loss weights, used in training only.
    """

    def __init__(self, config: HeadsConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        width, patch_width = decoder.width, decoder.patch_width
        self.norm = nn.LayerNorm(patch_width)
        attentive = config.pooling == "attention"
        self.pool: nn.Module = AttentivePool(patch_width, decoder.heads) if attentive else MeanPool()
        self.image_proj = nn.Linear(patch_width, config.width, bias=False)
        self.text_proj = nn.Linear(width, config.width, bias=False)
        self.match = nn.Linear(width, 1) if config.matching else None
        self.tag = nn.Linear(patch_width, len(config.tags)) if config.tags else None
        if self.tag is not None:
            nn.init.constant_(self.tag.bias, -4.0)  # few of many tags are true (Lin et al. 2017, 3.3)
        self._steepness = nn.Parameter(torch.tensor(SLOWNESS * math.log(1 / 0.07)))  # Radford et al. 2021
        self._log_variances = nn.Parameter(torch.zeros(len(LOSSES)))

    @property
    def logit_scale(self) -> Tensor:
        """The factor on cosines before a softmax: 1 / learned temperature (Radford et al. 2021)."""
        return (self._steepness / SLOWNESS).exp().clamp(max=MAX_LOGIT_SCALE)

    @property
    def log_variances(self) -> Tensor:
        """The log sigma^2 of each of ``LOSSES`` (Kendall et al. 2018)."""
        return self._log_variances / SLOWNESS

    def pooled(self, encoded: EncodedImage) -> Tensor:
        """Pool the patch tokens of each image, (B, D)."""
        return self.pool(self.norm(encoded.tokens.float())).float()

    def of_images(self, pooled: Tensor) -> Tensor:
        """Return unit-length image embeddings (B, W)."""
        return F.normalize(self.image_proj(pooled).float(), dim=-1)

    def of_texts(self, states: Tensor) -> Tensor:
        """Return unit-length text embeddings (..., W) of the decoder's end ``states`` (..., D)."""
        return F.normalize(self.text_proj(states.float()).float(), dim=-1)

    def matches(self, states: Tensor) -> Tensor:
        """Return log-odds (...) that a caption is true of its image, from end ``states`` (..., D) that saw both."""
        assert self.match is not None
        return self.match(states.float()).float().squeeze(-1)


def append_eos(tokens: Tensor, lengths: Tensor, eos_id: int, context: int) -> tuple[Tensor, Tensor]:
    """Return captions with their end token, (..., T + 1), and its position (...).

    ``tokens`` (..., T) include the start token, and so do ``lengths`` (...). If a caption fills the ``context``, its
    last token takes the role of the end token.
    """
    most = min(tokens.shape[-1] + 1, context)
    ends = lengths.clamp(max=context - 1)
    at_end = torch.arange(most, device=tokens.device) == lengths[..., None]
    return F.pad(tokens, (0, 1))[..., :most].masked_fill(at_end, eos_id), ends


def pad_and_close(
    captions: Sequence[Sequence[int]], text: TextConfig, context: int, starts: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Batch token ids without start and end as ``append_eos`` returns them: (N, T) and (N,).

    ``starts``: the start token of each caption; None for ``text.bos_id``.
    """
    starts = [text.bos_id] * len(captions) if starts is None else starts
    kept = [(start, *ids[: context - 1]) for start, ids in zip(starts, captions, strict=True)]
    lengths = torch.tensor([len(ids) for ids in kept], dtype=torch.long, device="cpu")
    tokens = torch.full((len(kept), max(map(len, kept), default=1)), text.pad_id, device="cpu")
    for row, ids in zip(tokens, kept, strict=True):
        row[: len(ids)] = torch.tensor(ids, device="cpu")
    return append_eos(tokens, lengths, text.eos_id, context)


def end_states(decoder: Decoder, tokens: Tensor, ends: Tensor, memory: ImageMemory | None = None) -> Tensor:
    """Return the decoder's state (N, D) at the end of each caption; arguments (N, T) and (N,) from ``append_eos``.

    Without ``memory`` the decoder reads the text alone.
    """
    return gather_at(decoder.states(tokens, memory), ends)


def gather_at(states: Tensor, ends: Tensor) -> Tensor:
    """Select the states (..., D) at the positions ``ends`` (...) of ``states`` (..., T, D)."""
    return states.take_along_dim(ends[..., None, None], dim=-2).squeeze(-2)
