"""Captions from hypotheses: their confidence, and the mark of an unsure one."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from captioner.captioning.captions import caption_of
from captioner.config import GenerationConfig
from captioner.generation.hypothesis import Hypothesis
from captioner.text import train_tokenizer

TOKENIZER = train_tokenizer(["a dog on a beach"] * 5, 300)
CHECKPOINT: Any = SimpleNamespace(tokenizer=TOKENIZER, generation=GenerationConfig())


def hypothesis(text: str, probability: float) -> Hypothesis:
    tokens = tuple(TOKENIZER.encode(text))
    return Hypothesis(tokens, (math.log(probability),) * len(tokens), 0.0)


def test_a_caption_below_the_threshold_is_unsure() -> None:
    found = [hypothesis("a dog", 0.4), hypothesis("a beach", 0.9)]
    caption = caption_of(found, CHECKPOINT, unsure=0.5)
    assert (caption.text, caption.unsure) == ("a dog", True)
    assert [other.unsure for other in caption.alternatives] == [False]
    assert not caption_of(found, CHECKPOINT, unsure=caption.confidence).unsure, "the threshold itself is sure"
    assert not caption_of(found, CHECKPOINT).unsure
