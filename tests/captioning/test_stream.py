"""Settings of a stream of captions, and the size of its pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from captioner.captioning.stream import require_size, settings_of
from captioner.config import GenerationConfig
from captioner.errors import UsageError

CHECKPOINT: Any = SimpleNamespace(generation=GenerationConfig(beams=4))


def test_more_captions_need_as_many_candidates() -> None:
    assert settings_of(CHECKPOINT, 1, {}) == CHECKPOINT.generation
    assert settings_of(CHECKPOINT, 3, {"max_tokens": 7}) == GenerationConfig(beams=4, candidates=3, max_tokens=7)
    assert settings_of(CHECKPOINT, 2, {"candidates": 3}).candidates == 3


def test_no_captions_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match=r"^the count of captions per image must be at least 1, not 0$"):
        settings_of(CHECKPOINT, 0, {})


def test_pixels_have_the_size_of_the_model() -> None:
    require_size([torch.zeros(3, 8, 8)], 8)
    with pytest.raises(UsageError, match=r"^the model reads pixels of 3 x 8 x 8, not 3 x 8 x 9; use pipe.transform$"):
        require_size([torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)], 8)
