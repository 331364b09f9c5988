"""The attention of an imported model equals the attention in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioner.checkpoint.hugging_face import convert
from captioner.pipelines import CaptionPipeline


def test_attention_is_the_originals(vit_gpt2: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    _, directory = vit_gpt2(7, decoder={"vocab_size": 270})
    (directory / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 0, "eos_token_id": 1}))
    from transformers import VisionEncoderDecoderModel, ViTImageProcessor

    model = VisionEncoderDecoderModel.from_pretrained(directory, attn_implementation="eager").eval()
    photo = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    )  # the size that the processor expects
    found = CaptionPipeline(convert(directory)).explain(photo, "two dogs on a beach")
    pixels = ViTImageProcessor.from_pretrained(directory)(images=photo, return_tensors="pt").pixel_values
    with torch.inference_mode():
        given = torch.tensor([[0, *found.tokens[:-1]]])
        wanted = model(pixel_values=pixels, decoder_input_ids=given, output_attentions=True)
    assert len(found.layers) == len(wanted.cross_attentions) == 2
    for layer, original in zip(found.layers, wanted.cross_attentions, strict=True):
        np.testing.assert_allclose(layer.global_weights, original[0].numpy(), atol=1e-4)
    chances = wanted.logits[0].log_softmax(-1).gather(1, torch.tensor(found.tokens)[:, None])[:, 0]
    np.testing.assert_allclose(np.log(found.probabilities).sum(), chances.sum().item(), atol=1e-3)
    assert (found.grid, found.gates, found.local_maps, found.centres) == ((2, 2), None, None, None)
    np.testing.assert_allclose(found.maps.sum((1, 2)), 1, atol=1e-6)
    assert (found.off_grid > 0).all()  # CLS
    assert found.save(tmp_path / "x.html").stat().st_size > 1000
    assert found.save(tmp_path / "x.png").stat().st_size > 1000
