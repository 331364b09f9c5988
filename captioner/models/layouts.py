"""Features of any timm backbone: how they are asked for, and whether they lie on the grid that is read off them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captioner.errors import ConfigError


def forward_features(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return the last features of ``pixels`` (B, 3, height, width) before any pooling: a sequence or a map.

    Raises ``ConfigError`` for a family that gives more than that.
    """
    model: Any = backbone
    family = _family(backbone)
    if family == "pit":  # its forward_features gives the class token alone
        found = model.forward_intermediates(pixels, indices=1, intermediates_only=True)[-1]
    else:
        found = model.forward_features(pixels)
    if family == "coat" and isinstance(found, (list, tuple)):
        found = found[-1]  # of its parallel scales the coarsest, which is as wide as num_features says
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"a backbone of timm's family {family} gives several sets of features, and captioner reads one "
            "grid; choose another vision.backbone"
        )
    return found


def prefix_of(backbone: nn.Module) -> int:
    """Return how many tokens stand before the patches; two families have a class token and do not say so."""
    unsaid = {"volo": getattr(backbone, "post_network", None) is not None, "coat": True}
    return int(getattr(backbone, "num_prefix_tokens", unsaid.get(_family(backbone), False)))


def check_grid(backbone: nn.Module, name: str, size: int, grid: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Check the ``grid`` (h, w) of ``shape`` (B, h * w, C) against the backbone's reduction of a square of ``size``.

    Raises ``ConfigError`` where the patches would be taken for those of other places.
    """
    (h, w), (_, patches, channels) = grid, shape
    model: Any = backbone
    reduction = _reduction(backbone)
    side = size / reduction if reduction else h
    if not (h == w and h * w == patches and abs(h - side) < 2 and channels == model.num_features):
        raise ConfigError(
            f"{name} gives {patches} patches of {channels} channels, which captioner cannot lay on a grid of "
            f"{side:g} x {side:g}; choose another vision.backbone"
        )


def _family(backbone: nn.Module) -> str:
    return type(backbone).__module__.rpartition(".")[2]


def _reduction(backbone: nn.Module) -> float | None:
    """Pixels of a patch's side, as timm says it; None where it says nothing, or something else.

    MobileNet v5 joins its last stages into a map of a size of its own.
    """
    model: Any = backbone
    if _family(backbone) == "mobilenetv5":
        return None
    try:
        return float(list(model.feature_info)[-1]["reduction"])
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
