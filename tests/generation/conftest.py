"""A small decoder with confident predictions, and random images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from captioner.config import DecoderConfig, TextConfig
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer

from ..text.wordpiece import wordpiece

TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2)


def make_decoder(seed: int, *, vocab_size: int, context: int = 16) -> Decoder:
    config = DecoderConfig(
        vocab_size=vocab_size, context=context, width=16, layers=2, heads=2, self_pattern="GM", cross_pattern="MG"
    )
    decoder = Decoder(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (0.5 if parameter.ndim > 1 else 0.2) + (1.0 if name.endswith("norm.weight") else 0))
    return decoder


@pytest.fixture(scope="session")
def make() -> Callable[..., tuple[Decoder, ImageMemory]]:
    """Return ``make(seed, images=..., vocab_size=...)``: a decoder, and its memory of random images."""

    @torch.inference_mode()
    def build(seed: int, *, images: int = 4, vocab_size: int = 12, context: int = 16) -> tuple[Decoder, ImageMemory]:
        decoder = make_decoder(seed, vocab_size=vocab_size, context=context)
        tokens = torch.randn(images, 7, 16, generator=torch.Generator().manual_seed(seed))
        return decoder, decoder.remember(EncodedImage(tokens, (2, 3), 1))

    return build


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> CaptionTokenizer:
    """Return a WordPiece tokenizer, whose tokens do not tell spaces around punctuation."""
    return wordpiece(tmp_path_factory.mktemp("wordpiece"))
