"""A backbone in two halves gives the output of the whole."""

from __future__ import annotations

import pytest
import timm
import torch

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError
from captioner.models.halves import cut_below, lower_half, upper_half
from captioner.models.vision import VisionEncoder


@pytest.mark.parametrize(("name", "size"), [("test_efficientnet", 96), ("test_vit", 160)])
def test_both_halves_together_are_the_backbone(name: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0).eval()
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        whole = backbone.forward_features(pixels)
        for blocks in range(len(backbone.blocks) + 1):
            torch.testing.assert_close(upper_half(backbone, lower_half(backbone, pixels, blocks), blocks), whole)


@pytest.mark.parametrize(("name", "size"), [("test_efficientnet", 96), ("test_vit", 160)])
@pytest.mark.parametrize("blocks", [1, 3])
def test_features_can_be_finished_later(name: str, size: int, blocks: int) -> None:
    torch.manual_seed(0)
    vision = VisionEncoder(VisionConfig(backbone=name), PreprocessConfig(size=size), 32).eval()
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        whole = vision.features(pixels)
        kept = vision.lower_features(pixels, blocks)
        assert kept.blocks == blocks
        found = vision.finished(kept)
        assert (found.grid, found.prefix, found.blocks) == (whole.grid, whole.prefix, None)
        torch.testing.assert_close(found.values, whole.values)
        torch.testing.assert_close(vision.tokens(kept).tokens, vision(pixels).tokens)


def test_the_cut_lies_below_the_first_trained_block() -> None:
    backbone = timm.create_model("test_efficientnet", num_classes=0)
    assert cut_below(backbone, ["blocks.3.0.conv_pw.weight", "blocks.2.0.bn1.weight", "conv_head.weight"]) == 2
    assert cut_below(backbone, ["conv_head.weight", "bn2.bias"]) == len(backbone.blocks)
    for first in ("conv_stem.weight", "bn1.weight"):
        with pytest.raises(ConfigError, match="set vision to last:N with a smaller N"):
            cut_below(backbone, ["blocks.2.0.bn1.weight", first])


def test_a_backbone_without_a_known_layout_is_refused() -> None:
    with pytest.raises(ConfigError, match="not ConvNeXt; set cache_features to false"):
        cut_below(timm.create_model("test_convnext", num_classes=0), ["stages.1.blocks.0.gamma"])
