"""Any timm backbone as patch tokens: layouts, grids, prefix tokens, and the trained layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError
from captioner.models.vision import AT_ONCE, VisionEncoder, _grid

WIDTH = 8
SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def encoder(backbone: str, args: dict[str, Any] | None = None, *, size: int = 64, **settings: Any) -> VisionEncoder:
    config = VisionConfig(backbone=backbone, backbone_args=args or {}, **settings)
    return VisionEncoder(config, PreprocessConfig(size=size), WIDTH).eval()


@pytest.mark.parametrize(
    ("backbone", "args", "size", "grid", "prefix"),
    [
        ("test_vit", {}, 64, (4, 4), 1),
        ("test_convnext", {}, 64, (2, 2), 0),
        ("test_mambaout", {}, 64, (2, 2), 0),
        ("test_efficientnet", {}, 64, (2, 2), 0),
        ("test_efficientnet", {}, 72, (3, 3), 0),
        ("test_resnet", {}, 64, (2, 2), 0),
        ("test_vit_relpos", {}, 48, (3, 3), 0),
        ("vit_small_patch16_dinov3", SMALL, 64, (4, 4), 5),  # CLS and four registers
        ("deit_tiny_distilled_patch16_224", SMALL, 48, (3, 3), 2),  # CLS and the distillation token
        ("beit_base_patch16_224", SMALL, 48, (3, 3), 1),
        ("xcit_nano_12_p16_224", {"embed_dim": 32, "depth": 1}, 64, (4, 4), 1),
        ("cait_xxs24_224", SMALL, 64, (4, 4), 1),
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
            64,
            (8, 8),
            0,
        ),
    ],
)
def test_each_family_gives_patch_tokens(
    backbone: str, args: dict[str, Any], size: int, grid: tuple[int, int], prefix: int
) -> None:
    vision = encoder(backbone, args, size=size)
    with torch.inference_mode():
        features = vision.features(torch.randn(2, 3, size, size))
        encoded = vision.tokens(features)
    assert (encoded.grid, encoded.prefix) == (features.grid, features.prefix) == (grid, prefix)
    assert encoded.tokens.shape == (2, prefix + grid[0] * grid[1], WIDTH)
    assert features.values.shape == (2, prefix + grid[0] * grid[1], vision.channels)
    assert vision.positions is not None
    assert vision.positions.shape == (1, WIDTH, *grid)


@pytest.mark.parametrize(("backbone", "channels_first"), [("test_convnext", True), ("test_mambaout", False)])
def test_patches_are_read_row_by_row(backbone: str, channels_first: bool) -> None:
    vision = encoder(backbone)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        plane = vision.backbone.forward_features(pixels)
        features = vision.features(pixels)
    assert features.grid == (2, 3)
    for row, column in ((0, 0), (0, 2), (1, 0), (1, 2)):
        patch = plane[0, :, row, column] if channels_first else plane[0, row, column]
        torch.testing.assert_close(features.values[0, row * 3 + column], patch, atol=1e-5, rtol=1e-5)


def test_a_vit_of_any_size_reads_wide_and_tall_images() -> None:
    vision = encoder("test_vit", {"dynamic_img_size": True})
    with torch.inference_mode():
        for height, width in ((32, 96), (96, 32), (64, 64)):
            encoded = vision(torch.randn(1, 3, height, width))
            assert encoded.grid == (height // 16, width // 16)
            assert encoded.tokens.shape[1] == 1 + height * width // 16**2


def test_the_grid_of_a_sequence_follows_the_image() -> None:
    for h in range(1, 20):
        for w in range(1, 20):
            assert _grid(h * w, h / w) == (h, w)
    assert _grid(7, 127 / 31) == (7, 1)  # patches of 16 that leave a margin
    assert _grid(12, 40 / 72) == (3, 4)


def test_positions_are_added_to_patches_alone_and_stretch() -> None:
    vision = encoder("test_vit", {"dynamic_img_size": True})
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = vision(pixels).tokens
        added = torch.randn_like(vision.positions)
        vision.positions += added
        moved = vision(pixels).tokens - before
        torch.testing.assert_close(moved[:, 0], torch.zeros(1, WIDTH))
        torch.testing.assert_close(moved[:, 1:], added.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
        vision.positions.zero_()
        wide = torch.randn(1, 3, 32, 96)
        before = vision(wide).tokens
        vision.positions += torch.linspace(0, 1, 4)[:, None]  # each row of the grid has its value
        moved = (vision(wide).tokens - before)[0, 1:, 0].view(2, 6)
    torch.testing.assert_close(moved, torch.tensor([[1 / 6], [5 / 6]]).expand(2, 6), atol=1e-5, rtol=1e-5)


def test_nothing_is_added_where_an_import_has_nothing() -> None:
    vision = VisionEncoder(
        VisionConfig(backbone="test_vit", norm=False, positions=False, project=False, norm_eps=1e-12),
        PreprocessConfig(size=64),
        64,
    ).eval()
    assert all(name.startswith("backbone.") for name in vision.state_dict())
    assert {m.eps for m in vision.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-12}
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(vision(pixels).tokens, vision.backbone.forward_features(pixels))


def test_building_and_training_move_no_statistics() -> None:
    vision = encoder("test_efficientnet").train()
    before = {name: value.clone() for name, value in vision.named_buffers()}
    assert any("running_mean" in name for name in before)
    assert all(value.sum() == 0 for name, value in before.items() if "running_mean" in name or "batches" in name)
    for _ in range(3):
        vision(torch.randn(4, 3, 64, 64) * 3 + 1).tokens.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in vision.named_buffers())


def test_a_frozen_backbone_is_the_loaded_one_while_the_rest_trains() -> None:
    vision = encoder("test_vit", {"proj_drop_rate": 0.5})
    pixels = torch.randn(4, 3, 64, 64)
    loaded = vision.features(pixels).values
    vision.train()
    assert not torch.equal(vision.features(pixels).values, loaded)  # being trained, it has dropout
    vision.backbone_frozen = True
    vision.train()
    assert torch.equal(vision.features(pixels).values, loaded)
    assert vision.proj.training
    vision.backbone_frozen = False
    assert vision.train().backbone.training


def test_the_shipped_backbone() -> None:
    """The shipped weights have these names and shapes."""
    vision = encoder("tf_efficientnet_lite2", size=288)
    names = set(vision.state_dict())
    assert (vision.channels, vision.positions.shape) == (1280, (1, WIDTH, 9, 9))
    assert {"backbone.conv_stem.weight", "norm.weight", "proj.weight", "positions"} <= names
    assert vision.training is False


@pytest.mark.parametrize(
    ("backbone", "args", "settings", "message"),
    [
        ("resnet_of_mine", {}, {}, "'resnet_of_mine' is not a model of timm"),
        ("test_vit", {"colour": "red"}, {}, "does not allow 'colour'"),
        ("test_vit", {"img_size": 64, "patch_size": 7, "num_heads": 5}, {}, "cannot build"),
        ("test_vit", {}, {"project": False}, "64 wide and the decoder 8"),
    ],
)
def test_a_backbone_that_cannot_be(backbone: str, args: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(backbone, args, **settings)


def test_without_gradient_a_cpu_encodes_a_few_images_at_once_and_each_as_if_it_were_alone() -> None:
    encoder = VisionEncoder(VisionConfig(backbone="test_efficientnet"), PreprocessConfig(size=64), 16).eval()
    pixels = torch.randn(2 * AT_ONCE + 1, 3, 64, 64)
    sizes: list[int] = []
    encoder.backbone.conv_stem.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    with torch.no_grad():
        found = encoder.features(pixels)
        assert sizes == [AT_ONCE, AT_ONCE, 1]
        assert torch.equal(found.values[-1:], encoder.features(pixels[-1:]).values)
    sizes.clear()
    torch.testing.assert_close(encoder.features(pixels).values, found.values, rtol=1e-4, atol=1e-4)
    assert sizes == [len(pixels)]
