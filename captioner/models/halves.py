"""A timm backbone in two halves, cut between two of its blocks.

If only the upper blocks are trained, the lower half gives the same output in every epoch. Training can cache that
output and start from it (``captioner.training.features``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from captioner.errors import ConfigError

# Modules of ``forward_features`` before and after ``blocks``, by timm class.
_LAYOUTS = {
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "VisionTransformer": (("patch_embed", "_pos_embed", "patch_drop", "norm_pre"), ("norm",)),
}


def cut_below(backbone: nn.Module, trained: Collection[str]) -> int:
    """Return the number of blocks below the first one that holds one of the ``trained`` parameters.

    Raises ``ConfigError`` for a backbone without a known layout, and if layers before the blocks are trained.
    """
    _, after = _layout(backbone)
    if any(name.split(".")[0] not in ("blocks", *after) for name in trained):
        raise ConfigError(
            "cache_features keeps the output of frozen layers, but this stage trains the first layers; "
            "set vision to last:N with a smaller N, or cache_features to false"
        )
    blocks = len(_blocks(backbone))
    indices = [int(name.split(".")[1]) for name in trained if name.startswith("blocks.")]
    return min(indices, default=blocks)


def takes_maps(backbone: nn.Module) -> bool:
    """Return whether the blocks take maps (B, C, h, w); a transformer's take tokens (B, S, C)."""
    if isinstance(backbone, UpperHalf):
        return backbone.maps
    _layout(backbone)
    return type(backbone).__name__ == "EfficientNet"


def lower_half(backbone: nn.Module, pixels: Tensor, blocks: int) -> Tensor:
    """Run the layers up to the first ``blocks`` blocks: pixels (B, 3, size, size) -> a map or tokens."""
    x: Any = pixels
    for name in _layout(backbone)[0]:
        x = getattr(backbone, name)(x)
    return blocks_between(backbone, x, 0, blocks)


def blocks_between(backbone: nn.Module, x: Tensor, first: int, last: int | None) -> Tensor:
    """Run the blocks from ``first`` up to ``last``, which it leaves out, on the output before; None for all others."""
    for block in _blocks(backbone)[first:last]:
        x = block(x)
    return x


class UpperHalf(nn.Module):
    """The layers of a backbone after its first ``blocks`` blocks: the output of ``lower_half`` to features."""

    def __init__(self, backbone: nn.Module, blocks: int) -> None:
        super().__init__()
        self.maps, self.layout = takes_maps(backbone), _layout(backbone)
        self.blocks = nn.ModuleList(_blocks(backbone)[blocks:])
        for name in self.layout[1]:
            self.add_module(name, getattr(backbone, name))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map (B, C, h, w), or the tokens (B, S, C) of a transformer."""
        return upper_half(self, x, 0)


def lower_weights(backbone: nn.Module, blocks: int) -> list[Tensor]:
    """Return the parameters and buffers of the layers that ``lower_half`` runs."""
    state = backbone.state_dict()
    return [state[name] for name in lower_names(backbone, blocks, state)]


def lower_names(backbone: nn.Module, blocks: int, names: Iterable[str]) -> list[str]:
    """Return those of the ``names`` of parameters and buffers that are in the layers that ``lower_half`` runs."""
    _, after = _layout(backbone)

    def below(name: str) -> bool:
        first, *rest = name.split(".")
        return int(rest[0]) < blocks if first == "blocks" else first not in after

    return [name for name in names if below(name)]


def equal_blocks(backbone: nn.Module, other: nn.Module) -> int:
    """Return the number of blocks up to which two backbones have the same weights, but for fp16's rounding."""
    blocks = len(_blocks(backbone))
    while blocks:
        pairs = zip(lower_weights(backbone, blocks), lower_weights(other, blocks), strict=True)
        if all(same_but_for_rounding(one, two) for one, two in pairs):
            return blocks
        blocks -= 1
    return 0


def same_but_for_rounding(one: Tensor, two: Tensor) -> bool:
    """Return whether two weights of a backbone are the same, but for the rounding of fp16."""
    return one.allclose(two, rtol=1e-2, atol=1e-3)


def upper_half(backbone: nn.Module, x: Tensor, blocks: int) -> Tensor:
    """Run the layers after the first ``blocks`` blocks on the output of ``lower_half``; return the features."""
    x = blocks_between(backbone, x, blocks, None)
    for name in _layout(backbone)[1]:
        x = getattr(backbone, name)(x)
    return x


def _layout(backbone: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(backbone, UpperHalf):
        return backbone.layout
    kind = type(backbone).__name__
    if kind not in _LAYOUTS:
        raise ConfigError(
            f"cache_features with a trained backbone supports {' and '.join(_LAYOUTS)}, not {kind}; set cache_features "
            "to false, or vision to frozen"
        )
    return _LAYOUTS[kind]


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    blocks: Any = backbone.blocks
    return list(blocks)
