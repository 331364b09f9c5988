"""Any timm backbone as a source of patch tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError, reason_of
from captioner.models.backbones import build_backbone
from captioner.models.halves import blocks_between, lower_half, takes_maps, upper_half
from captioner.models.layouts import check_grid, forward_features, prefix_of

# oneDNN sums in another order from 15 images on (EfficientNet-Lite2, 288 pixels), and with int8 the last bit can change
# a word: 3 of 200 captions changed with the batch size. Larger parts would be 5 % faster and take more memory.
AT_ONCE = 8


@dataclass(frozen=True)
class EncodedImage:
    """The encoder's output for B images, all that the decoder sees of them."""

    tokens: Tensor  # (B, S, D), S = prefix + h * w
    grid: tuple[int, int]  # (h, w)
    prefix: int = 0  # tokens before the patches without a position on the grid: labels, CLS, registers
    labels: Tensor | None = None  # (B, G), log-odds of each label, if the captioner has a labeller


@dataclass(frozen=True)
class Features:
    """The backbone's output for B images."""

    values: Tensor  # (B, S, C)
    grid: tuple[int, int]  # as in ``EncodedImage``
    prefix: int = 0  # as in ``EncodedImage``
    blocks: int | None = None  # number of backbone blocks already run; None for all
    lower: Features | None = None  # the output of the blocks that a classifier of labels shares, if there is one

    def rows(self, images: Sequence[int]) -> Features:
        """Return the features of some of the images."""
        lower = None if self.lower is None else self.lower.rows(images)
        return replace(self, values=self.values[list(images)], lower=lower)


class VisionEncoder(nn.Module):
    """A backbone and a projection: pixels -> features (B, S, C) -> patch tokens (B, S, D).

    The two steps are separate so that the features of a frozen backbone can be cached.
    """

    def __init__(self, config: VisionConfig, preprocess: PreprocessConfig, width: int) -> None:
        super().__init__()
        backbone: Any = build_backbone(config, preprocess)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.backbone_frozen = False
        self.shared_blocks: int | None = None  # lower blocks whose output ``features`` keep, for a classifier
        self.backbone_folded = False  # its convolutions train in autocast's precision (training.convolutions)
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
        """Set the training mode, but keep BatchNorm statistics fixed and a frozen backbone in eval mode.

        A caption batch is too small, and too different from ImageNet, for new statistics.
        """
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def _grid_of_a_square(self, name: str, size: int) -> tuple[int, int]:
        """Return the grid (h, w) of an image of ``size`` pixels. Raises ``ConfigError`` if the backbone has none."""
        pixels = torch.zeros(1, 3, size, size, device=next(self.backbone.parameters()).device)
        self.eval()  # this pass must not update BatchNorm statistics
        try:
            with torch.no_grad():
                features = self.features(pixels)
        except ConfigError:
            raise
        except Exception as error:  # each timm family fails on a wrong size in its own way
            raise ConfigError(
                f"{name} cannot read images of {size} x {size} pixels ({reason_of(error)}); set preprocess.size to "
                "the backbone's training size, or choose another vision.backbone"
            ) from error
        self.train()
        check_grid(self.backbone, name, size, features.grid, features.values[:, features.prefix :].shape)
        return features.grid

    def features(self, pixels: Tensor) -> Features:
        """Return the backbone's last features, before pooling, of normalised ``pixels`` (B, 3, height, width)."""
        if pixels.device.type == "cpu" and not torch.is_grad_enabled() and len(pixels) > AT_ONCE:
            return _joined([self.features_at_once(part) for part in pixels.split(AT_ONCE)])
        return self.features_at_once(pixels)

    def features_at_once(self, pixels: Tensor) -> Features:
        """Return ``features``, without dividing the images into parts."""
        if self.shared_blocks is None:
            return self._features(pixels)
        return self.finished(self._features(pixels, self.shared_blocks))

    def lower_features(self, pixels: Tensor, blocks: int) -> Features:
        """Return the output of the backbone's first ``blocks`` blocks; ``finished`` runs the others."""
        return self._features(pixels, blocks)

    def finished(self, features: Features) -> Features:
        """Run the backbone blocks that ``features`` still lack; return complete features unchanged."""
        if features.blocks is None:
            return features
        shared = self.shared_blocks
        if shared is not None and features.blocks < shared:
            with self._precision(features.values.device.type):
                x = blocks_between(self.backbone, block_input(features, self.backbone), features.blocks, shared)
            features = replace(self._in_rows(x, 1.0), blocks=shared)
        with self._precision(features.values.device.type):
            out = upper_half(self.backbone, block_input(features, self.backbone), features.blocks or 0)
        whole = self._in_rows(out, features.grid[0] / features.grid[1])
        return replace(whole, lower=features) if features.blocks == shared else whole

    def _features(self, pixels: Tensor, blocks: int | None = None) -> Features:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        dtype = next(self.backbone.parameters()).dtype  # bf16 in a backbone that was cast for inference
        pixels = pixels.to(dtype)
        with self._precision(pixels.device.type):
            if blocks is None:
                out = forward_features(self.backbone, pixels)
            else:
                out = lower_half(self.backbone, pixels, blocks)
        if dtype != torch.float32:  # else autocast chooses
            out = out.to(dtype)
        return replace(self._in_rows(out, pixels.shape[2] / pixels.shape[3]), blocks=blocks)

    def _in_rows(self, out: Tensor, aspect: float) -> Features:
        """Return a backbone's output as (B, S, C) with its grid; ``aspect`` is height / width of the pixels."""
        if out.ndim == 3:  # a ViT: (B, prefix + h * w, C), its final norm applied
            prefix = prefix_of(self.backbone)
            return Features(out, _grid(out.shape[1] - prefix, aspect), prefix)
        # A map. timm's output_fmt names the axis of the channels; without it they come first.
        if str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NCHW"):
            out = out.permute(0, 2, 3, 1)  # (B, h, w, C)
        return Features(out.flatten(1, 2), (out.shape[1], out.shape[2]))  # (B, S, C)

    def _precision(self, device: str) -> AbstractContextManager[object]:
        """Return a context that turns autocast off where bf16 is slower than fp32.

        That is a CPU's backward pass through grouped convolutions (EfficientNet-Lite2, 16 images: 1.2 s a step in bf16,
        0.9 s in fp32).
        """
        slow = self._grouped and not (self.backbone_frozen or self.backbone_folded)
        if device == "cpu" and slow and torch.is_grad_enabled():
            return torch.autocast(device, enabled=False)
        return nullcontext()

    def tokens(self, features: Features) -> EncodedImage:
        """Turn features (B, S, C) into patch tokens (B, S, D): norm, projection and positions."""
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
        """Encode ``pixels`` (B, 3, height, width) as patch tokens (B, S, D)."""
        return self.tokens(self.features(pixels))


def block_input(features: Features, backbone: nn.Module) -> Tensor:
    """Return the output of some blocks as the next block takes it: a map (B, C, h, w) or tokens (B, S, C)."""
    x = features.values  # (B, S, C)
    if takes_maps(backbone):
        x = x.unflatten(1, features.grid).permute(0, 3, 1, 2)  # (B, C, h, w), stored channels last
    return x


def _joined(parts: Sequence[Features]) -> Features:
    lower = [part.lower for part in parts if part.lower is not None]
    values = torch.cat([part.values for part in parts])
    return replace(parts[0], values=values, lower=_joined(lower) if lower else None)


def _grid(patches: int, aspect: float) -> tuple[int, int]:
    """Return the (h, w) with h * w = ``patches`` whose h / w is closest to ``aspect`` (height / width of pixels)."""
    heights = (h for h in range(1, patches + 1) if patches % h == 0)
    h = min(heights, key=lambda h: abs(math.log(h * h / (patches * aspect))))
    return h, patches // h
