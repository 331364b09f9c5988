"""BEiT, imported, gives the original's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.checkpoint.hugging_face.encoders import encoder_config, encoder_weights
from captioner.errors import CheckpointError
from captioner.models.vision import EncodedImage

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
SMALL |= {"image_size": 24, "patch_size": 8}


@pytest.mark.parametrize(
    ("seed", "changes", "side"),
    [
        (0, {"use_relative_position_bias": True}, 3),  # as most published ones
        (1, {"use_shared_relative_position_bias": True, "use_mean_pooling": False, "use_mask_token": True}, 3),
        (2, {"use_absolute_position_embeddings": True, "intermediate_size": 37, "layer_norm_eps": 1e-3}, 3),
        (3, {"layer_scale_init_value": 0.0, "use_mean_pooling": False, "patch_size": 14, "image_size": 56}, 4),
        (
            4,
            {
                "use_relative_position_bias": True,
                "use_shared_relative_position_bias": True,
                "use_absolute_position_embeddings": True,
                "image_size": 64,
                "patch_size": 16,
            },
            4,
        ),
    ],
)
def test_features_are_the_originals(
    seed: int, changes: dict[str, Any], side: int, same_features: Callable[..., EncodedImage]
) -> None:
    from transformers import BeitConfig, BeitModel

    found = same_features(BeitModel(BeitConfig(**{**SMALL, **changes})), seed)
    assert (found.grid, found.prefix) == ((side, side), 1)


def test_a_model_without_pooling_layer(same_features: Callable[..., EncodedImage]) -> None:
    from transformers import BeitConfig, BeitModel

    same_features(BeitModel(BeitConfig(**SMALL), add_pooling_layer=False), 0)


def test_tables_of_older_files_are_dropped() -> None:
    values = {**SMALL, "model_type": "beit", "num_hidden_layers": 1}
    place = "encoder.layer.0.attention.attention.relative_position_bias.relative_position_index"
    state = {place: torch.zeros(10, 10), "embeddings.mask_token": torch.zeros(1, 1, 24), "pooler.x": torch.zeros(1)}
    assert encoder_weights(values, state, "it").keys() == {"fc_norm.weight", "fc_norm.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"layer_scale_init_value": -1}, "layer_scale_init_value -1"),
        ({"use_relative_position_bias": 1}, "use_relative_position_bias 1"),
    ],
)
def test_settings_without_a_counterpart_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        encoder_config({**SMALL, "model_type": "beit", **change}, project=False, source="it")
