"""Decoders with large random weights, so that every weight affects the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.config import DecoderConfig
from captioner.models.decoder import Decoder


@pytest.fixture(scope="session")
def make_decoder() -> Callable[..., Decoder]:
    def make(seed: int = 0, **settings: Any) -> Decoder:
        config = {"vocab_size": 11, "context": 10, "width": 16, "layers": 2, "heads": 2, "local_words": 3, **settings}
        decoder = Decoder(DecoderConfig(**config)).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator) * 0.4
                parameter.copy_(noise + (1.0 if name.endswith("norm.weight") else 0.0))
        return decoder

    return make
