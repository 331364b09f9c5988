"""BLIP's vision encoder, imported, gives the original's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from captioner.checkpoint.hugging_face.encoders import encoder_config
from captioner.errors import CheckpointError
from captioner.models.vision import EncodedImage

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
SMALL |= {"image_size": 24, "patch_size": 8}


@pytest.mark.parametrize(
    ("seed", "changes", "side"),
    [
        (0, {}, 3),
        (1, {"intermediate_size": 37, "layer_norm_eps": 1e-2}, 3),
        (2, {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}, 4),
    ],
)
def test_features_are_the_originals(
    seed: int, changes: dict[str, Any], side: int, same_features: Callable[..., EncodedImage]
) -> None:
    from transformers import BlipVisionConfig, BlipVisionModel

    found = same_features(BlipVisionModel(BlipVisionConfig(**{**SMALL, **changes})), seed)
    assert (found.grid, found.prefix) == ((side, side), 1)


def test_defaults_are_the_base_models() -> None:
    config = encoder_config({"model_type": "blip_vision_model"}, project=False, source="it")
    sizes = {"img_size": 384, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}
    assert (config.backbone, config.backbone_args, config.norm_eps) == ("vit_base_patch16_384", sizes, 1e-5)


def test_another_activation_is_named() -> None:
    with pytest.raises(CheckpointError, match="hidden_act 'quick_gelu'"):
        encoder_config({"model_type": "blip_vision_model", "hidden_act": "quick_gelu"}, project=False, source="it")
