"""ViT and DeiT, imported, give the original's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.checkpoint.hugging_face.encoders import encoder_config
from captioner.config import PreprocessConfig
from captioner.errors import CheckpointError
from captioner.models.vision import EncodedImage, VisionEncoder

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
SMALL |= {"image_size": 24, "patch_size": 8}


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
@pytest.mark.parametrize(
    ("seed", "changes", "side"),
    [
        (0, {}, 3),
        (1, {"intermediate_size": 37, "qkv_bias": False, "layer_norm_eps": 1e-3}, 3),
        (2, {"image_size": 60, "patch_size": 14, "num_hidden_layers": 1}, 4),  # 4 pixels are left over
        (3, {"hidden_size": 32, "num_attention_heads": 2, "image_size": [32, 32], "patch_size": 16}, 2),
    ],
)
def test_features_are_the_originals(
    kind: str, seed: int, changes: dict[str, Any], side: int, same_features: Callable[..., EncodedImage]
) -> None:
    import transformers

    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**{**SMALL, **changes}))
    size = changes.get("image_size", 24)
    found = same_features(model, seed, size=size if isinstance(size, int) else size[0])
    assert (found.grid, found.prefix) == ((side, side), 1 if kind == "ViT" else 2)


@pytest.mark.parametrize("kind", ["vit", "deit", "beit", "dinov2", "dinov2_with_registers", "blip_vision_model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_fused(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    config = encoder_config({**SMALL, "mlp_ratio": 2, "model_type": kind}, project=False, source="it")
    vision = VisionEncoder(config, PreprocessConfig(size=24), 24).eval()
    vision.backbone.to(dtype)
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def count(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        return fused(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", count)
    with torch.inference_mode():
        tokens = vision(torch.randn(1, 3, 24, 24)).tokens
    assert len(calls) == 2
    assert tokens.dtype == dtype
    assert tokens.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu'"),
        ({"num_channels": 1}, "num_channels 1"),
        ({"head_dim": 16}, "head_dim 16"),
        ({"qkv_bias": "yes"}, "qkv_bias 'yes'"),
        ({"hidden_size": 10**9}, "hidden_size 1000000000"),
        ({"hidden_size": True}, "hidden_size True"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers 1000000"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps 'small'"),
        ({"image_size": [24, 32]}, r"image_size \[24, 32\]"),
        ({"image_size": -8}, "image_size -8"),
        ({"patch_size": None}, "patch_size None"),
    ],
)
def test_settings_without_a_counterpart_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        encoder_config({**SMALL, "model_type": "vit", **change}, project=False, source="it")
    assert "\n" not in str(caught.value)
