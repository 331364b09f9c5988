"""Access to the features of any timm backbone, and a check of their grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captioner.errors import ConfigError


def forward_features(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return the last features of ``pixels`` (B, 3, height, width) before pooling: a sequence or a map.

    Raises ``ConfigError`` for a family that returns several sets of features.
    """
    model: Any = backbone
    family = _family(backbone)
    if family == "pit":  # its forward_features returns only the class token
        features = model.forward_intermediates(pixels, indices=1, intermediates_only=True)[-1]
    else:
        features = model.forward_features(pixels)
    if family == "coat" and isinstance(features, (list, tuple)):
        features = features[-1]  # the coarsest of its parallel scales, num_features wide
    if not isinstance(features, Tensor):
        raise ConfigError(
            f"a backbone of timm's family {family} gives several sets of features, and captioner reads one "
            "grid; choose another vision.backbone"
        )
    return features


def prefix_of(backbone: nn.Module) -> int:
    """Return the number of tokens before the patches; two families have a class token but do not report it."""
    unreported = {"volo": getattr(backbone, "post_network", None) is not None, "coat": True}
    return int(getattr(backbone, "num_prefix_tokens", unreported.get(_family(backbone), False)))


def check_grid(backbone: nn.Module, name: str, size: int, grid: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Check the ``grid`` (h, w) of ``shape`` (B, h * w, C) against the backbone's reduction of a square of ``size``.

    Raises ``ConfigError`` if the patches would be assigned to wrong positions.
    """
    (h, w), (_, patches, channels) = grid, shape
    model: Any = backbone
    reduction = _reduction(backbone)
    side = size / reduction if reduction else h
    if not (h == w and h * w == patches and abs(h - side) < 2 and channels == model.num_features):
        raise ConfigError(
            f"{name} returns {patches} patches of {channels} channels, which do not fit a grid of "
            f"{side:g} x {side:g}; choose another vision.backbone"
        )


def _family(backbone: nn.Module) -> str:
    return type(backbone).__module__.rpartition(".")[2]


def _reduction(backbone: nn.Module) -> float | None:
    """Return the side of a patch in pixels according to timm; None if timm reports none or a wrong one.

    MobileNet v5 merges its last stages into a map of another size.
    """
    model: Any = backbone
    if _family(backbone) == "mobilenetv5":
        return None
    try:
        return float(list(model.feature_info)[-1]["reduction"])
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
