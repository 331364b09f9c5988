"""DINOv2, imported, gives the original's features, also of images of another size than its positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.checkpoint.hugging_face.encoders import encoder_config, encoder_weights
from captioner.errors import CheckpointError
from captioner.models.vision import EncodedImage

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 2}
SMALL |= {"image_size": 28, "patch_size": 14}


@pytest.mark.parametrize("registers", [None, 1, 4])
@pytest.mark.parametrize(
    ("seed", "changes", "size", "side"),
    [
        (0, {}, None, 2),
        (1, {"mlp_ratio": 3, "qkv_bias": False, "layer_norm_eps": 1e-3, "image_size": 24, "patch_size": 8}, None, 3),
        (2, {"image_size": 70}, 42, 3),  # as 518 pixels for 224
        (3, {"image_size": 42}, 60, 4),  # larger, and 4 pixels are left over
        (4, {"use_swiglu_ffn": True, "mlp_ratio": 4}, None, 2),
        (5, {"use_swiglu_ffn": True, "hidden_size": 16, "num_attention_heads": 2, "hidden_act": "relu"}, 42, 3),
    ],
)
def test_features_are_the_originals(
    registers: int | None,
    seed: int,
    changes: dict[str, Any],
    size: int | None,
    side: int,
    same_features: Callable[..., EncodedImage],
) -> None:
    import transformers

    settings = {**SMALL, **changes}
    if registers is None:
        model: Any = transformers.Dinov2Model(transformers.Dinov2Config(**settings))
    else:
        config = transformers.Dinov2WithRegistersConfig(**settings, num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersModel(config)
    found = same_features(model, seed, size=size)
    assert (found.grid, found.prefix) == ((side, side), 1 + (registers or 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"use_swiglu_ffn": "yes"}, "use_swiglu_ffn 'yes'"),
        ({"mlp_ratio": 10**6}, "mlp_ratio 1000000"),
        ({"num_hidden_layers": 300}, "num_hidden_layers 300"),
    ],
)
def test_settings_without_a_counterpart_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        encoder_config({**SMALL, "model_type": "dinov2", **change}, project=False, source="it")


def test_positions_that_are_no_square_are_named() -> None:
    state = {"embeddings.position_embeddings": torch.zeros(1, 7, 24), "embeddings.cls_token": torch.zeros(1, 1, 24)}
    with pytest.raises(CheckpointError, match="for 6 patches, which are no square"):
        encoder_weights({**SMALL, "model_type": "dinov2"}, state, "it")


def test_positions_for_a_huge_image_take_no_memory() -> None:
    state = {"embeddings.position_embeddings": torch.zeros(1, 5, 24), "embeddings.cls_token": torch.zeros(1, 1, 24)}
    with pytest.raises(CheckpointError, match="100000 x 100000 patches"):
        encoder_weights({**SMALL, "model_type": "dinov2", "patch_size": 1}, state, "it", 100_000)


def test_tensors_of_other_shapes_are_left_to_the_check_of_sizes() -> None:
    state = {"embeddings.position_embeddings": torch.zeros(5), "embeddings.cls_token": torch.zeros(1, 1, 24)}
    state |= {f"encoder.layer.0.mlp.{part}_proj.weight": torch.zeros(3 + len(part), 24) for part in ("gate", "up")}
    state |= {f"encoder.layer.0.attention.{part}_proj.bias": torch.zeros(ord(part)) for part in "qkv"}
    weights = encoder_weights({**SMALL, "model_type": "dinov2"}, state, "it")
    assert weights["pos_embed"].shape == (5,)
    assert not {"blocks.0.mlp.fc1.weight", "blocks.0.attn.qkv.bias"} & weights.keys()
