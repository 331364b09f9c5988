"""Settings of the vision encoder: preprocessing and backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.config.schema import at_least_one
from captioner.errors import ConfigError

Aspect = Literal["squash", "crop", "pad"]
LARGEST_INPUT = 2048  # pixels, side of a backbone's input
_MOST_ZOOM = 8


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """The preprocessing that the backbone was trained with; saved with the weights.

    size: Side of the square input, in pixels.
    aspect: ``squash`` resizes both sides, ``crop`` keeps the centre square, ``pad`` pads with the mean colour.
    zoom: Enlargement of that square, whose centre is the input; an imported DeiT resizes to 256 and keeps 224.
    mean, std: Normalisation per channel, for values from 0 to 1.
    """

    size: int = 288
    aspect: Aspect = "squash"
    zoom: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        at_least_one(self, "preprocess", "size")
        if self.size > LARGEST_INPUT:
            raise ConfigError(f"preprocess.size must be at most {LARGEST_INPUT} pixels, not {self.size}")
        if not 1 <= self.zoom <= _MOST_ZOOM or (self.aspect == "pad" and self.zoom != 1):
            raise ConfigError(
                f"preprocess.zoom must be from 1 to {_MOST_ZOOM}, and 1 with aspect pad, not {self.zoom:g}"
            )
        if min(self.std) <= 0:
            raise ConfigError(f"preprocess.std must be above 0, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A timm backbone, and the layers that turn its features into patch tokens of the decoder's width.

    backbone: The timm model name.
    backbone_args: Arguments for ``timm.create_model``.
    norm, positions, project: LayerNorm over the features, learned positions over the grid, linear projection to the
        decoder's width. Each is off if an imported checkpoint lacks it.
    norm_eps: Epsilon of the backbone's LayerNorms, instead of its own (Hugging Face ViT: 1e-12).
    """

    backbone: str = "tf_efficientnet_lite2"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = True
    positions: bool = True
    project: bool = True
    norm_eps: float | None = None
