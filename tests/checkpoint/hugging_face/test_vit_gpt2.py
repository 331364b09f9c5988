"""A random VisionEncoderDecoderModel, imported, gives the original's logits and captions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.checkpoint import Checkpoint, load, save
from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig
from captioner.generation.search import search
from captioner.pipelines import CaptionPipeline

from .conftest import originals, same_logits

Make = Callable[..., tuple[Any, Path]]


@torch.inference_mode()
def logits_of(checkpoint: Checkpoint, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return checkpoint.model(tokens[:, None], pixels).logits[:, 0]


@pytest.mark.parametrize(
    ("changes", "projected"),
    [
        ({"seed": 0}, False),
        ({"seed": 1, "width": 32}, True),
        ({"seed": 2, "encoder": "deit", "width": 16}, True),
        ({"seed": 3, "qkv_bias": False, "intermediate_size": 37, "layer_norm_eps": 1e-3}, False),
        ({"seed": 4, "decoder": {"n_inner": 20, "layer_norm_epsilon": 1e-3, "n_layer": 1}}, False),
        ({"seed": 5, "decoder": {"activation_function": "gelu_pytorch_tanh"}, "image_size": 24}, False),
    ],
)
def test_logits_are_the_originals(changes: dict[str, Any], projected: bool, vit_gpt2: Make) -> None:
    model, directory = vit_gpt2(**changes)
    side = model.config.encoder.image_size
    preprocessor = directory / "preprocessor_config.json"
    preprocessor.write_text(preprocessor.read_text().replace(": 16", f": {side}"))
    pixels, tokens = torch.randn(3, 3, side, side), torch.randint(0, 12, (3, 9))
    checkpoint = convert(directory)
    same_logits(checkpoint.model, model, pixels, tokens)
    config = checkpoint.config.vision
    assert (config.project, config.norm, config.positions) == (projected, False, False)


@pytest.mark.parametrize("seed", range(3))
def test_captions_are_the_originals(seed: int, vit_gpt2: Make, pixels: torch.Tensor) -> None:
    model, directory = vit_gpt2(seed, width=32 if seed % 2 else 24)
    checkpoint = convert(directory)
    found: list[tuple[int, ...]] = []
    settings = [(1, 0.0, 12), (3, 1.0, 3), *itertools.product((2, 3, 4, 5), (0.0, 1.0, 2.0), (12,))]
    for images, (beams, penalty, most) in zip(itertools.cycle((4, 3, 1)), settings, strict=False):
        with torch.inference_mode():
            memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels[:images]))
        config = GenerationConfig(beams=beams, max_tokens=most, length_penalty=penalty)
        ours = search(checkpoint.model.decoder, memory, checkpoint.config.text, config)
        theirs = originals(model, pixels[:images], beams, most, penalty)
        assert [[h.tokens for h in hypotheses] for hypotheses in ours] == [[w for w, _ in row] for row in theirs]
        if beams > 1:
            scores = [[h.score for h in hypotheses] for hypotheses in ours]
            assert scores == [pytest.approx([score for _, score in row], abs=1e-4) for row in theirs]
        found += [h.tokens for hypotheses in ours for h in hypotheses]
    assert len(set(found)) > 20, "the random model says too few things to prove much"
    assert len(set(map(len, found))) > 3, "it never ends before the limit"


def test_a_photo_is_captioned_in_the_originals_words(vit_gpt2: Make) -> None:
    """The whole path with the checkpoint's defaults: preprocessing, model, search, text."""
    from transformers import PreTrainedTokenizerFast, ViTImageProcessor

    model, directory = vit_gpt2(6, decoder={"vocab_size": 270})
    generation = {"num_beams": 3, "max_length": 12, "early_stopping": "never", "decoder_start_token_id": 0}
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 1, **generation}))
    pipe = CaptionPipeline(convert(directory))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    model = type(model).from_pretrained(directory)
    captions = set()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        photo = Image.fromarray(noise).resize((90, 70))
        pixels = ViTImageProcessor.from_pretrained(directory)(images=photo, return_tensors="pt").pixel_values
        with torch.inference_mode():
            written = model.generate(pixel_values=pixels)[0]
        caption = pipe.caption(photo).text
        assert caption == tokenizer.decode(written, skip_special_tokens=True).strip()
        captions.add(caption)
    assert len(captions) > 1


def test_saved_and_loaded_again_keeps_the_logits(vit_gpt2: Make, pixels: torch.Tensor, tmp_path: Path) -> None:
    _, directory = vit_gpt2(7, width=32, decoder={"vocab_size": 270})
    converted = convert(directory)
    tokens = torch.randint(0, 12, (4, 7))
    loaded = load(save(converted, tmp_path / "out"))
    torch.testing.assert_close(logits_of(loaded, pixels, tokens), logits_of(converted, pixels, tokens), atol=0, rtol=0)
    assert (loaded.config, loaded.generation) == (converted.config, converted.generation)
    assert loaded.training["converted_from"] == str(directory)
