"""Small captioners with random weights, one of each kind of decoder that can be imported or trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from captioner.checkpoint import Checkpoint
from captioner.config import (
    CaptionerConfig,
    ClassifierConfig,
    DecoderConfig,
    GenerationConfig,
    LabelsConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.text import CaptionTokenizer

LABELS = LabelsConfig(
    words=("ba", "be", "bi", "bo"),
    tokens=((30,), (31, 32), (33,), (34,)),
    count=2,
    scaled=True,
    classifier=ClassifierConfig(blocks=3, count=5, classes=((0,), (1, 2), (), (3,))),
)
WORDS = [
    "<pad>",
    "<bos>",
    "<eos>",
    "<zh>",
    *"abcdefghijklmnopqrstuvwxyz",
    *[f"Ġ{a}{b}" for a in "bcdfgh" for b in "aeiou"],
]
SMALL: dict[str, Any] = {"vocab_size": len(WORDS), "context": 16, "width": 32, "layers": 2, "heads": 2, "dropout": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "mixed": {
        "self_pattern": "M",
        "cross_pattern": "M",
        "local_words": 2,
        "head_width": 8,
    },  # heads narrower, as pruned
    "local": {"self_pattern": "LG", "cross_pattern": "GL", "local_words": 3, "cross_gate": True, "prefix": 3},
    "blip": {"norm": "post", "activation": "gelu", "embedding_norm": True, "final_norm": False, "head": "bert"},
    "trocr": {
        "norm": "post",
        "activation": "relu",
        "embedding_scale": 32**0.5,
        "final_norm": False,
        "head": "untied",
        "memory_width": 48,
    },
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Checkpoint]:
    """Return a function that makes a captioner of a kind of decoder, with settings of its config replaced."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from captioner.models.captioner import Captioner

    def make(kind: str = "mixed", *, labels: bool = False, seed: int = 0, **settings: Any) -> Checkpoint:
        torch.manual_seed(seed)
        text = TextConfig(bos_id=1, eos_id=2, pad_id=0, languages={"en": 1, "zh": 3})
        config = CaptionerConfig(
            vision=VisionConfig(backbone="test_efficientnet"),
            decoder=DecoderConfig(**{**SMALL, **KINDS[kind]}),
            text=text,
            preprocess=PreprocessConfig(size=64),
            labels=LABELS if labels else None,
        )
        model = Captioner(replace(config, **settings)).eval()
        with torch.no_grad():
            for parameter in model.decoder.parameters():  # spread enough for words to depend on the image
                parameter.add_(torch.randn_like(parameter) * 0.3)
        tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(WORDS)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(WORDS[:4])
        generation = GenerationConfig(beams=1, max_tokens=10)
        return Checkpoint(model, CaptionTokenizer(tokenizer, text), generation)

    return make
