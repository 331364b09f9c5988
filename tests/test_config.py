"""Settings are taken strictly: what is unknown, missing or of another type is named."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
    from_dict,
    to_dict,
)
from captioner.errors import CaptionerError, ConfigError


@pytest.fixture
def config() -> CaptionerConfig:
    return CaptionerConfig(
        vision=VisionConfig(backbone="test_vit", backbone_args={"depth": 3, "window": [4, 4]}, norm_eps=1e-12),
        decoder=DecoderConfig(vocab_size=100, self_pattern="GM", mlp_width=7, cross_gate=True, dropout=0.0),
        text=TextConfig(bos_id=1, eos_id=2, pad_id=0),
        preprocess=PreprocessConfig(mean=(0.1, 0.2, 0.3), aspect="pad"),
    )


def test_through_json_and_back(config: CaptionerConfig) -> None:
    assert from_dict(CaptionerConfig, json.loads(json.dumps(to_dict(config)))) == config
    generation = GenerationConfig(beams=3, length_penalty=-0.5)
    assert from_dict(GenerationConfig, json.loads(json.dumps(to_dict(generation)))) == generation


def test_defaults_need_not_be_named() -> None:
    assert from_dict(GenerationConfig, {}) == GenerationConfig()
    assert from_dict(DecoderConfig, {"vocab_size": 9}) == DecoderConfig(vocab_size=9)


def test_configs_are_frozen_and_named(config: CaptionerConfig) -> None:
    with pytest.raises(FrozenInstanceError):
        config.decoder.width = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        GenerationConfig(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decodr": {}}, r"unknown setting decodr; did you mean decoder\?"),
        ({"decoder": {"vocab_size": 9, "widht": 3}}, r"unknown setting decoder\.widht; did you mean decoder\.width\?"),
        ({"vision": {"zzz": 1}}, r"unknown setting vision\.zzz; did you mean vision\.\w+\?"),
        ({"decoder": {}}, r"setting decoder\.vocab_size is missing"),
        ({"text": {"bos_id": 1, "eos_id": 2}}, r"setting text\.pad_id is missing"),
        ({"decoder": 3}, "decoder must be a table of settings, not 3"),
        ({"decoder": {"vocab_size": "9"}}, r"decoder\.vocab_size must be a int, not '9'"),
        ({"decoder": {"vocab_size": 9.0}}, r"decoder\.vocab_size must be a int, not 9\.0"),
        ({"decoder": {"vocab_size": True}}, r"decoder\.vocab_size must be a int, not True"),
        ({"decoder": {"vocab_size": 9, "dropout": "no"}}, r"decoder\.dropout must be a float"),
        ({"decoder": {"vocab_size": 9, "cross_gate": 1}}, r"decoder\.cross_gate must be a bool"),
        ({"decoder": {"vocab_size": 9, "mlp_width": 1.5}}, r"decoder\.mlp_width must be a int"),
        ({"decoder": {"vocab_size": 9, "self_pattern": "GX"}}, r"decoder\.self_pattern 'GX' must be made of"),
        ({"decoder": {"vocab_size": 9, "cross_pattern": ""}}, r"decoder\.cross_pattern ''"),
        ({"decoder": {"vocab_size": 9, "width": 10, "heads": 3}}, r"decoder\.width 10 is not a multiple of"),
        ({"preprocess": {"aspect": "stretch"}}, r"preprocess\.aspect must be one of squash, crop, pad, not 'stretch'"),
        ({"preprocess": {"mean": 0.5}}, r"preprocess\.mean must be a list"),
        ({"preprocess": {"mean": [0.5]}}, r"preprocess\.mean must have 3 values, not 1"),
        ({"preprocess": {"mean": [0.5, 0.5, None]}}, r"preprocess\.mean\[2\] must be a float"),
        ({"vision": {"backbone_args": []}}, r"vision\.backbone_args must be a table"),
        ({"vision": {"backbone": None}}, r"vision\.backbone must be a str"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str, config: CaptionerConfig) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        from_dict(CaptionerConfig, {**to_dict(config), **change})
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, CaptionerError)


def test_a_whole_number_is_a_float_and_null_is_nothing() -> None:
    found = from_dict(DecoderConfig, {"vocab_size": 9, "dropout": 0, "mlp_width": None})
    assert found.dropout == 0.0
    assert isinstance(found.dropout, float)
    assert found.mlp_width is None


@pytest.mark.parametrize("values", [{"beams": 0}, {"max_tokens": 0}, {"beams": -1}])
def test_impossible_searches(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        from_dict(GenerationConfig, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "decoder.heads must be at least 1, not 0"),
        ({"mlp_width": 0}, "decoder.mlp_width must be at least 1, not 0"),
        ({"dropout": 1.5}, "decoder.dropout must be at least 0 and below 1, not 1.5"),
    ],
)
def test_impossible_decoders(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_dict(DecoderConfig, {"vocab_size": 9, **change})


@pytest.mark.parametrize("values", [{"size": 0}, {"std": [0.5, 0.5, 0]}])
def test_impossible_preprocessing(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"preprocess.{next(iter(values))} must be"):
        from_dict(PreprocessConfig, values)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_config_that_is_no_table(values: Any) -> None:
    with pytest.raises(ConfigError, match="GenerationConfig must be a table of settings"):
        from_dict(GenerationConfig, values)
