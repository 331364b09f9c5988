"""Swin, imported, gives the original's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.checkpoint.hugging_face.encoders import encoder_config, encoder_weights
from captioner.errors import CheckpointError
from captioner.models.vision import EncodedImage

SMALL = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "window_size": 4}


@pytest.mark.parametrize(
    ("seed", "changes", "side"),
    [
        (0, {}, 8),
        (1, {"depths": [2, 1, 2], "num_heads": [1, 2, 4], "qkv_bias": False, "mlp_ratio": 1.7}, 4),
        (2, {"image_size": 28, "patch_size": 4, "window_size": 7, "depths": [3], "num_heads": [2]}, 7),
        (3, {"window_size": 3, "image_size": 36, "patch_size": 3, "embed_dim": 8, "num_heads": [4, 2]}, 6),
        (4, {"window_size": 3, "image_size": 40, "depths": [1, 1], "patch_size": 4}, 5),  # padded, not shifted
    ],
)
def test_features_are_the_originals(
    seed: int, changes: dict[str, Any], side: int, same_features: Callable[..., EncodedImage]
) -> None:
    from transformers import SwinConfig, SwinModel

    found = same_features(SwinModel(SwinConfig(**{**SMALL, **changes})), seed)
    assert (found.grid, found.prefix) == ((side, side), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings True"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06"),
        ({"window_size": 5}, "divide the 16 x 16 patches of stage 1"),
        ({"window_size": 16}, "divide the 8 x 8 patches of stage 2"),
        ({"image_size": 33}, "33 pixels with patch_size 2"),
        ({"depths": [2, 2, 2]}, "3 depths and 2 num_heads"),
        ({"depths": [2] * 99}, "not a short list"),
        ({"depths": 2}, "not a short list"),
        ({"depths": [2, 10**9]}, "depths 1000000000"),
        ({"num_heads": [2, "3"]}, "num_heads '3'"),
    ],
)
def test_settings_without_a_counterpart_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        encoder_config({**SMALL, "model_type": "swin", **change}, project=False, source="it")
    assert "\n" not in str(caught.value)


def test_tables_of_older_files_are_dropped() -> None:
    place = "encoder.layers.0.blocks.0.attention.self.relative_position_index"
    state = {place: torch.zeros(16, 16), "a.attn_mask": torch.zeros(1), "pooler.b": torch.zeros(1)}
    assert encoder_weights({**SMALL, "model_type": "swin", "depths": [1, 1]}, state, "it") == {}
    with pytest.raises(CheckpointError, match="more layers than its weights"):
        encoder_weights({**SMALL, "model_type": "swin"}, state, "it")
