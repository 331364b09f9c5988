"""Fused ViT blocks compute what timm's blocks do, in bf16 and int8."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from captioner.inference.linears import PIECE, WHOLE, has_product
from captioner.inference.vit import fuse_blocks
from captioner.native.library import library

PRECISIONS: list[Any] = ["bf16", "int8"]


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> Any:
    if not (has_product("bf16") if request.param == "bf16" else library()):
        pytest.skip(f"this CPU has no product in {request.param}")
    return request.param


def vit(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    settings = {"img_size": 96, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    model: nn.Module = timm.create_model("vit_base_patch16_384", **{**settings, **changes}).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}, {"init_values": 0.5}, {"mlp_ratio": 2.5}])
@pytest.mark.parametrize("side", [32, 96, 192])
@torch.inference_mode()
def test_they_give_what_the_blocks_give(precision: Any, changes: dict[str, object], side: int) -> None:
    """Sides give few tokens, some that are multiplied in pieces, and many."""
    model, pixels = vit(img_size=side, **changes), torch.randn(2, 3, side, side)
    wanted = model.forward_features(pixels)  # type: ignore[operator]
    assert fuse_blocks(model, precision) == ("blocks.0.", "blocks.1.", "blocks.2.")
    found = model.forward_features(pixels)  # type: ignore[operator]
    assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()
    assert (found - wanted).abs().mean() < 0.01 * wanted.std()
    assert not torch.equal(found, wanted)


@torch.inference_mode()
def test_an_image_has_the_same_bits_in_any_company(precision: Any) -> None:
    model = vit()
    fuse_blocks(model, precision)
    pixels = torch.randn(5, 3, 96, 96)
    tokens = (96 // 8) ** 2 + 1
    assert PIECE < tokens < WHOLE < 5 * tokens
    together = model.forward_features(pixels)  # type: ignore[operator]
    for place in range(5):
        alone = model.forward_features(pixels[place : place + 1])  # type: ignore[operator]
        assert torch.equal(alone[0], together[place])


def test_blocks_that_compute_more_stay(precision: Any) -> None:
    assert fuse_blocks(vit(qk_norm=True), precision) == ()
    assert fuse_blocks(vit(act_layer="gelu_tanh"), precision) == ()
    assert fuse_blocks(timm.create_model("test_efficientnet"), precision) == ()
