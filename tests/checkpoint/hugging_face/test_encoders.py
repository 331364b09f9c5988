"""A VisionEncoderDecoderModel of each encoder with GPT-2, converted whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint.hugging_face import convert
from captioner.checkpoint.hugging_face.encoders import ENCODERS, encoder_config, encoder_weights
from captioner.errors import CheckpointError
from captioner.inference import prepare

from .conftest import same_logits, tokenizer_json

PLAIN = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 4}


@pytest.mark.parametrize(
    ("kind", "settings", "side"),
    [
        ("Swin", SWIN, 32),
        ("Beit", {**PLAIN, "intermediate_size": 40, "use_relative_position_bias": True}, 32),
        ("Dinov2", PLAIN, 16),
        ("Dinov2WithRegisters", PLAIN, 16),
    ],
)
def test_logits_are_the_originals(
    kind: str, settings: dict[str, Any], side: int, gpt2_config: Callable[..., Any], tmp_path: Path
) -> None:
    import transformers

    encoder = getattr(transformers, f"{kind}Config")(**settings)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, gpt2_config())
    model = transformers.VisionEncoderDecoderModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.2
    model.generation_config.decoder_start_token_id = 0
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(12), encoding="utf-8")
    pixels, tokens = torch.randn(2, 3, side, side, generator=generator), torch.randint(0, 12, (2, 9))
    checkpoint = convert(tmp_path)
    with torch.inference_mode():
        features = checkpoint.model.vision(pixels).tokens
        prepared = prepare(checkpoint, precision="bf16").model.vision(pixels).tokens
    same_logits(checkpoint.model, model, pixels, tokens)
    assert (prepared - features).abs().mean() < 0.05 * features.std()


@pytest.mark.parametrize("kind", [None, "clip_vision_model", ["vit"]])
def test_an_unknown_type_is_named_beside_the_known(kind: Any) -> None:
    message = f"has an encoder of type .*; only vit, .* and {ENCODERS[-1]} can be imported"
    with pytest.raises(CheckpointError, match=message):
        encoder_config({"model_type": kind}, project=False, source="it")
    with pytest.raises(CheckpointError, match=message):
        encoder_weights({"model_type": kind}, {}, "it")
