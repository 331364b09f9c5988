"""Any timm backbone as a source of patch tokens."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError, reason_of
from captioner.models.backbones import build_backbone
from captioner.models.halves import lower_half, takes_maps, upper_half
from captioner.models.layouts import check_grid, forward_features, prefix_of

# oneDNN adds in another order from 15 images on (EfficientNet-Lite2, 288 pixels), and int8 makes that last bit a word:
# 3 of 200 captions changed with the size of the batch. All at once would be 5 % faster and take more memory.
AT_ONCE = 8


@dataclass(frozen=True)
class EncodedImage:
    """What the decoder may know of B images: ``tokens`` (B, S, D), S = prefix + h * w, and the ``grid`` (h, w).

    ``prefix`` tokens (labels, CLS, registers) come first and have no place on the grid. ``labels``: log-odds (B, G) of
    each label, where the captioner has a labeller.
    """

    tokens: Tensor
    grid: tuple[int, int]
    prefix: int = 0
    labels: Tensor | None = None


@dataclass(frozen=True)
class Features:
    """The backbone's output for B images: ``values`` (B, S, C) with the grid and prefix of ``EncodedImage``.

    ``blocks``: the number of the backbone's blocks that made it, where the others have yet to follow; None for all.
    """

    values: Tensor
    grid: tuple[int, int]
    prefix: int = 0
    blocks: int | None = None


class VisionEncoder(nn.Module):
    """pixels -> features (the backbone's) -> patch tokens (the decoder's width).

    The two halves are apart so that the features of a frozen backbone can be computed once and kept.
    """

    def __init__(self, config: VisionConfig, preprocess: PreprocessConfig, width: int) -> None:
        super().__init__()
        backbone: Any = build_backbone(config, preprocess)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.backbone_frozen = False
        self.backbone_folded = False  # its convolutions train in the precision of autocast (training.convolutions)
        self.backbone_dtypes: tuple[torch.dtype, torch.dtype] | None = None  # what goes in and out, where cast
        self._grouped = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in backbone.modules())
        if config.norm_eps is not None:
            for module in self.backbone.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = config.norm_eps
        self.channels = int(backbone.num_features)
        if not config.project and self.channels != width:
            raise ConfigError(
                f"vision.project is off, but the backbone is {self.channels} wide and the decoder {width}"
            )
        self.norm = nn.LayerNorm(self.channels) if config.norm else nn.Identity()
        self.proj: nn.Module = nn.Linear(self.channels, width) if config.project else nn.Identity()
        self.positions: nn.Parameter | None = None
        h, w = self._grid_of_a_square(config.backbone, preprocess.size)
        if config.positions:
            self.positions = nn.Parameter(torch.randn(1, width, h, w) * 0.02)

    def train(self, mode: bool = True) -> VisionEncoder:
        """Like ``nn.Module.train``, but BatchNorm statistics never move and a frozen backbone stays as it was loaded.

        A caption batch is too small, and too unlike ImageNet's, for new statistics.
        """
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def _grid_of_a_square(self, name: str, size: int) -> tuple[int, int]:
        """Return the grid (h, w) of an image of ``size`` pixels. Raises ``ConfigError`` where there is none."""
        pixels = torch.zeros(1, 3, size, size, device=next(self.backbone.parameters()).device)
        self.eval()  # asking for the grid must not move the statistics of a BatchNorm
        try:
            with torch.no_grad():
                found = self.features(pixels)
        except ConfigError:
            raise
        except Exception as error:  # each family of timm trips over a wrong size in its own way
            raise ConfigError(
                f"{name} cannot read images of {size} x {size} pixels ({reason_of(error)}); set preprocess.size to "
                "what it was trained on, or choose another vision.backbone"
            ) from error
        self.train()
        check_grid(self.backbone, name, size, found.grid, found.values[:, found.prefix :].shape)
        return found.grid

    def features(self, pixels: Tensor) -> Features:
        """``pixels`` (B, 3, height, width), normalised -> the backbone's last features, before any pooling."""
        if pixels.device.type == "cpu" and not torch.is_grad_enabled() and len(pixels) > AT_ONCE:
            parts = [self._features(part) for part in pixels.split(AT_ONCE)]
            return replace(parts[0], values=torch.cat([part.values for part in parts]))
        return self._features(pixels)

    def lower_features(self, pixels: Tensor, blocks: int) -> Features:
        """Return the output of the backbone's first ``blocks`` blocks; ``finished`` runs the others."""
        return self._features(pixels, blocks)

    def finished(self, features: Features) -> Features:
        """Run the blocks of the backbone that ``features`` lack; features that lack none come back as they are."""
        if features.blocks is None:
            return features
        x = features.values  # (B, S, C)
        if takes_maps(self.backbone):
            x = x.unflatten(1, features.grid).permute(0, 3, 1, 2)  # (B, C, h, w), channels last as they were kept
        with self._precision(x.device.type):
            out = upper_half(self.backbone, x, features.blocks)
        return self._in_rows(out, 1.0)  # only square pixels are kept

    def _features(self, pixels: Tensor, blocks: int | None = None) -> Features:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if self.backbone_dtypes is not None:
            pixels = pixels.to(self.backbone_dtypes[0])
        with self._precision(pixels.device.type):
            if blocks is None:
                out = forward_features(self.backbone, pixels)
            else:
                out = lower_half(self.backbone, pixels, blocks)
        if self.backbone_dtypes is not None:
            out = out.to(self.backbone_dtypes[1])
        return replace(self._in_rows(out, pixels.shape[2] / pixels.shape[3]), blocks=blocks)

    def _in_rows(self, out: Tensor, aspect: float) -> Features:
        """Return a backbone's output as (B, S, C) with its grid; ``aspect`` is height / width of the pixels."""
        if out.ndim == 3:  # a ViT: (B, prefix + h * w, C), its final norm applied
            prefix = prefix_of(self.backbone)
            return Features(out, _grid(out.shape[1] - prefix, aspect), prefix)
        # A map. timm says which axis holds the channels; where it says nothing they come first.
        if str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NCHW"):
            out = out.permute(0, 2, 3, 1)  # (B, h, w, C)
        return Features(out.flatten(1, 2), (out.shape[1], out.shape[2]))  # (B, S, C)

    def _precision(self, device: str) -> AbstractContextManager[object]:
        """fp32 where bf16 is slower: a CPU's backward pass through grouped convolutions (EfficientNet-Lite2, 16 images:
        1.2 s a step in bf16, 0.9 s in fp32)."""
        slow = self._grouped and not (self.backbone_frozen or self.backbone_folded)
        if device == "cpu" and slow and torch.is_grad_enabled():
            return torch.autocast(device, enabled=False)
        return nullcontext()

    def tokens(self, features: Features) -> EncodedImage:
        """Return the decoder's view of ``features``: norm, projection and positions. (B, S, C) -> (B, S, D)."""
        features = self.finished(features)
        tokens = self.proj(self.norm(features.values))  # (B, S, D)
        if self.positions is not None:
            places: Tensor = self.positions
            if places.shape[2:] != features.grid:
                places = F.interpolate(places, features.grid, mode="bilinear", align_corners=False)
            places = places.flatten(2).transpose(1, 2)  # (1, h * w, D)
            tokens = tokens + F.pad(places, (0, 0, features.prefix, 0))
        return EncodedImage(tokens, features.grid, features.prefix)

    def forward(self, pixels: Tensor) -> EncodedImage:
        """``pixels`` (B, 3, height, width) -> patch tokens (B, S, D)."""
        return self.tokens(self.features(pixels))


def _grid(patches: int, aspect: float) -> tuple[int, int]:
    """The (h, w) with h * w = ``patches`` whose h / w is nearest to the ``aspect`` (height / width) of the pixels."""
    heights = (h for h in range(1, patches + 1) if patches % h == 0)
    h = min(heights, key=lambda h: abs(math.log(h * h / (patches * aspect))))
    return h, patches // h
