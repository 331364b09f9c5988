"""Options of transformers' generate, one by one; checkpoint/hugging_face/test_pipeline.py covers their effects."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from captioner.errors import UsageError
from captioner.pipelines.image_to_text.options import translated
from captioner.text import CaptionTokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(["a photo of a dog"], 300, lowercase=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"num_beams": 4, "length_penalty": 0.6}, {"beams": 4, "length_penalty": 0.6}),
        ({"num_beam_groups": 2, "diversity_penalty": 0.5, "num_beams": 4}, {"groups": 2, "diversity": 0.5, "beams": 4}),
        ({"repetition_penalty": 1.2, "no_repeat_ngram_size": 3}, {"repetition_penalty": 1.2, "no_repeat_ngram": 3}),
        ({"max_new_tokens": 9}, {"max_tokens": 9}),
        ({"max_length": 20}, {"max_tokens": 19}),
        ({"max_length": 20, "max_new_tokens": 9}, {"max_tokens": 9}),
        ({"min_length": 5, "min_new_tokens": None}, {"min_tokens": 5}),
        ({"min_new_tokens": 5}, {"min_tokens": 6}),
        ({"min_new_tokens": 5, "max_new_tokens": 5}, {"min_tokens": 5, "max_tokens": 5}),
        ({"early_stopping": True, "use_cache": True, "pad_token_id": 1}, {}),
        ({"do_sample": False}, {}),
        ({"forbid": ["man"], "seed": 3}, {"forbid": ["man"], "seed": 3}),
    ],
)
def test_names_here(tokenizer: CaptionTokenizer, given: dict[str, Any], named: dict[str, Any]) -> None:
    found = translated(given, tokenizer)
    assert found.named == named
    assert found.count == 1


@pytest.mark.parametrize(
    "given",
    [
        {"max_new_tokens": "5"},
        {"max_length": 5.0},
        {"min_length": "3"},
        {"min_new_tokens": True},
        {"num_return_sequences": "2"},
    ],
)
def test_a_length_or_count_is_a_whole_number(tokenizer: CaptionTokenizer, given: dict[str, Any]) -> None:
    [(name, value)] = given.items()
    with pytest.raises(UsageError, match=f"{name} must be a whole number, not {value!r}"):
        translated(given, tokenizer, "a photo")


def test_drawing(tokenizer: CaptionTokenizer) -> None:
    found = translated({"do_sample": True, "num_return_sequences": 3}, tokenizer)
    assert found.count == 3
    assert found.named == {"temperature": 1.0, "top_k": 50, "top_p": None, "min_p": None, "typical_p": None}
    found = translated({"do_sample": True, "top_k": 0, "top_p": 0.9, "temperature": 0.7}, tokenizer)
    assert found.named == {"temperature": 0.7, "top_k": 0, "top_p": 0.9, "min_p": None, "typical_p": None}
    with pytest.warns(UserWarning, match="temperature, top_p without do_sample=True has no effect"):
        assert translated({"temperature": 0.7, "top_p": 0.9}, tokenizer).named == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translated({"do_sample": False, "num_beams": 3}, tokenizer)


def test_a_prompt_is_no_new_token(tokenizer: CaptionTokenizer) -> None:
    length = len(tokenizer.encode("a photo of"))
    assert length > 1
    found = translated({"max_new_tokens": 5, "min_new_tokens": 2}, tokenizer, "a photo of")
    assert found.named == {"max_tokens": 5 + length, "min_tokens": 3 + length, "prefix": "a photo of"}
    assert translated({"max_length": 12}, tokenizer, "a photo of").named["max_tokens"] == 11
    assert translated({}, tokenizer, "").named == {}


def test_a_generation_config_of_transformers(tokenizer: CaptionTokenizer) -> None:
    from transformers import GenerationConfig

    given = {"generation_config": GenerationConfig(num_beams=3, max_new_tokens=8), "max_new_tokens": 5}
    assert translated(given, tokenizer).named == {"beams": 3, "max_tokens": 5}
    with pytest.raises(UsageError, match="must be a GenerationConfig of transformers, not a dict"):
        translated({"generation_config": {"num_beams": 3}}, tokenizer)
