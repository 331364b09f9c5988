"""Untrusted settings of a backbone: sizes and switches reach timm, nothing else does."""

from __future__ import annotations

import builtins
import inspect
import re
from typing import Any

import pytest
import timm

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import CaptionerError, ConfigError
from captioner.models.backbones import ARGUMENTS, backbone_args, build_backbone


def build(backbone: str = "test_vit", **args: Any) -> Any:
    return build_backbone(VisionConfig(backbone=backbone, backbone_args=args), PreprocessConfig(size=64))


def refused(backbone: str = "test_vit", **args: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(backbone, **args)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_sizes_and_switches_reach_timm() -> None:
    backbone = build(depth=2, embed_dim=16, num_heads=2, qkv_bias=False, init_values=None)
    assert (len(backbone.blocks), backbone.num_features, backbone.blocks[0].attn.qkv.bias) == (2, 16, None)
    swin = build("swin_tiny_patch4_window7_224", depths=[1, 1], num_heads=[1, 2], embed_dim=16, window_size=[4, 4])
    assert swin.num_features == 32


def test_the_recipes_that_ship_may_say_what_they_say() -> None:
    assert build("test_efficientnet", output_stride=8).feature_info[-1]["reduction"] == 8


def test_what_timm_itself_would_open_or_call_is_no_argument() -> None:
    """The first assertion names the known cases; the second covers timm's later additions."""
    assert "checkpoint_path" in refused(checkpoint_path="x")
    assert not set(inspect.signature(timm.create_model).parameters) & set(ARGUMENTS)


@pytest.mark.parametrize(
    "name", ["act_layer", "pretrained_cfg_overlay", "block_fn", "num_classes", "in_chans", "x" * 9999]
)
def test_any_other_argument_is_refused_with_the_nearest(name: str) -> None:
    assert "did you mean" in refused(**{name: 1})


@pytest.mark.parametrize(
    "value",
    [
        "16",
        -1,
        10**9,
        1e300,
        float("nan"),
        {"a": 1},
        [1, [2, "x"]],
        [[[[1]]]],
        [1] * 99,
        object(),
        pytest.param(10**5000, id="digits"),
    ],
)
def test_a_size_is_a_bounded_number(value: object) -> None:
    assert "vision.backbone_args.embed_dim must be a number from 0 to 16384" in refused(embed_dim=value)


@pytest.mark.parametrize(
    "args", [{"depth": 0.5}, {"patch_size": 0}, {"num_heads": 0}, {"embed_dim": [[]]}, {"img_size": []}]
)
def test_a_number_that_timm_trips_over_is_one_sentence(args: dict[str, Any]) -> None:
    assert "timm cannot build 'test_vit' with these arguments" in refused(**args)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "hf-hub:org/name",
        "local-dir:/tmp",
        "https://example.org/x",
        "test_vit.https://x/y",
        "a\nb",
        "é" * 999,
    ],
)
def test_a_backbone_is_named_and_not_located(name: str) -> None:
    assert "is not a model of timm" in refused(name)


def test_the_input_size_goes_to_the_families_that_fix_it() -> None:
    vit, convnext = (VisionConfig(backbone=name) for name in ("vit_tiny_patch16_224", "test_convnext"))
    assert backbone_args(vit, PreprocessConfig(size=96)) == {"img_size": 96}
    assert backbone_args(convnext, PreprocessConfig(size=96)) == {}


def test_a_torchvision_of_another_torch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision built for another torch raises this RuntimeError while timm is imported."""
    original = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "timm":
            raise RuntimeError("operator torchvision::nms does not exist")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    reason = re.escape(
        "timm cannot be imported (operator torchvision::nms does not exist); install torch and torchvision"
    )
    with pytest.raises(CaptionerError, match=reason):
        build()
