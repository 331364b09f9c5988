"""The whole model: one encoding for all captions of an image, cached features, or no image at all."""

from __future__ import annotations

import pytest
import torch

from captioner.config import CaptionerConfig, DecoderConfig, PreprocessConfig, TextConfig, VisionConfig
from captioner.models.captioner import Captioner


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(0)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_vit"),
        decoder=DecoderConfig(vocab_size=11, width=16, layers=2, heads=2, cross_pattern="M"),
        text=TextConfig(bos_id=0, eos_id=1, pad_id=2),
        preprocess=PreprocessConfig(size=32),
    )
    return Captioner(config).eval()


def test_captions_of_an_image_share_one_encoding(model: Captioner) -> None:
    pixels, tokens = torch.randn(2, 3, 32, 32), torch.randint(0, 11, (2, 3, 5))
    encoded = []
    model.vision.proj.register_forward_hook(lambda _, args, __: encoded.append(args[0].shape[0]))
    with torch.inference_mode():
        logits = model(tokens, pixels).logits
        assert encoded == [2]
        assert logits.shape == (2, 3, 5, 11)
        for image in range(2):
            for caption in range(3):
                alone = model(tokens[image : image + 1, caption : caption + 1], pixels[image : image + 1]).logits
                torch.testing.assert_close(logits[image, caption], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_kept_features_stand_for_pixels(model: Captioner) -> None:
    pixels, tokens = torch.randn(2, 3, 32, 32), torch.randint(0, 11, (2, 1, 5))
    with torch.inference_mode():
        assert torch.equal(model(tokens, model.vision.features(pixels)).logits, model(tokens, pixels).logits)


def test_without_an_image_it_is_a_language_model(model: Captioner) -> None:
    tokens = torch.randint(0, 11, (2, 3, 5))
    with torch.inference_mode():
        assert torch.equal(model(tokens).logits.flatten(0, 1), model.decoder(tokens.flatten(0, 1)))
        assert not torch.equal(model(tokens).logits, model(tokens, torch.randn(2, 3, 32, 32)).logits)
