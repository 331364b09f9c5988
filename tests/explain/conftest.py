"""Captioners with random weights whose attention can be set by hand; their captions are noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint

SENTENCES = ["a red dog runs on the grass", "two people stand at the sea", "a small boat on the water"] * 3


@pytest.fixture(scope="session")
def make() -> Callable[..., Checkpoint]:
    """Return ``make(pattern, backbone, aspect, words)``: a new captioner of two layers and two heads.

    ``pattern`` gives the attention to the image, ``words`` the attention to the previous words.
    """
    import torch

    from captioner.checkpoint import Checkpoint
    from captioner.config import CaptionerConfig, DecoderConfig, GenerationConfig, PreprocessConfig, VisionConfig
    from captioner.models.captioner import Captioner
    from captioner.text import train_tokenizer

    def make(
        pattern: str = "M", backbone: str = "test_efficientnet", aspect: str = "squash", words: str = "G"
    ) -> Checkpoint:
        torch.manual_seed(0)
        tokenizer = train_tokenizer(SENTENCES, 320)
        size = 160 if backbone == "test_vit" else 96  # 3 x 3 patches of a convolutional backbone
        config = CaptionerConfig(
            vision=VisionConfig(backbone=backbone),
            decoder=DecoderConfig(
                vocab_size=tokenizer.vocab_size,
                context=16,
                width=16,
                layers=2,
                heads=2,
                self_pattern=words,
                cross_pattern=pattern,
            ),
            text=tokenizer.config,
            preprocess=PreprocessConfig(size=size, aspect=aspect),
        )
        model = Captioner(config).eval()
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return Checkpoint(model=model, tokenizer=tokenizer, generation=GenerationConfig(beams=2, max_tokens=9))

    return make


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """Return a photo of 90 x 60 with four colours."""
    image = Image.new("RGB", (90, 60), (200, 180, 40))
    image.paste((20, 90, 200), (45, 0, 90, 30))
    image.paste((200, 40, 40), (0, 30, 45, 60))
    return image
