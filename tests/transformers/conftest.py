"""Tiny captioners with random weights, for transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    LabelsConfig,
    PreprocessConfig,
    VisionConfig,
)
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer

CAPTIONS = ["a dog on a beach", "two dogs play", "a red circle", "a blue square on a table"]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Checkpoint]:
    """Return ``tiny(labels=..., decoder settings)``: mixed attention, two languages, every weight random."""

    def make(seed: int = 0, *, labels: bool = True, backbone: str = "test_efficientnet", **decoder: Any) -> Checkpoint:
        tokenizer = train_tokenizer(CAPTIONS, 300, languages=("en", "zh"))
        size = tokenizer.vocab_size
        settings = {"width": 32, "layers": 2, "heads": 2, "context": 24, "local_words": 3}
        settings |= {"self_pattern": "M", "cross_pattern": "M", **decoder}
        words = ("dog", "circle", "table")
        config = CaptionerConfig(
            vision=VisionConfig(backbone=backbone),
            decoder=DecoderConfig(vocab_size=size, **settings),
            text=tokenizer.config,
            preprocess=PreprocessConfig(size=64),
            labels=LabelsConfig(
                words=words, tokens=tuple(map(tuple, map(tokenizer.encode, words))), count=2, scaled=True
            )
            if labels
            else None,
        )
        torch.manual_seed(seed)
        model = Captioner(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("decoder.", "labeller.")):
                    scale = 1.0 if name.endswith("norm.weight") else 0.0
                    parameter.copy_(torch.randn_like(parameter) * 0.2 + scale)
        generation = GenerationConfig(beams=3, length_penalty=0.7, max_tokens=9)
        generation = dataclasses.replace(generation, rules=dataclasses.replace(generation.rules, no_repeat_ngram=2))
        return Checkpoint(model, tokenizer, generation)

    return make


@pytest.fixture(scope="session")
def exported(tiny: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """Return a tiny captioner and its directory for transformers. Do not modify it."""
    from captioner.transformers import export

    checkpoint = tiny()
    return checkpoint, export(checkpoint, tmp_path_factory.mktemp("exported") / "out")


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (70, 50 + n, 3), dtype=np.uint8)) for n in range(3)]
