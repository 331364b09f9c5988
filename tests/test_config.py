"""Strict settings: unknown and missing ones, and those of a wrong type, are named."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    SamplingConfig,
    TextConfig,
    VisionConfig,
    WordRules,
    from_dict,
    to_dict,
    with_options,
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
        (
            {"decoder": {"vocab_size": 9, "init": {"gate": 1}}},
            r"decoder\.init\.gate must be above 0 and below 1, not 1",
        ),
        (
            {"decoder": {"vocab_size": 9, "init": {"spread": 0}}},
            r"decoder\.init\.spread must be above 0 and at most 10",
        ),
        (
            {"decoder": {"vocab_size": 9, "init": {"points": "x"}}},
            r"decoder\.init\.points must be one of middle, apart",
        ),
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


def test_rules_and_sampling_go_through_json() -> None:
    rules = WordRules(prefix="a", require=("dog|cat", "hot dog"), forbid=("b",), bias={"x y": -1.5}, no_repeat_ngram=2)
    for config in (
        GenerationConfig(beams=4, rules=rules, length_penalty=0.5),
        GenerationConfig(
            sampling=SamplingConfig(temperature=0.7, top_p=0.9, seed=-3), candidates=3, rerank="consensus"
        ),
        GenerationConfig(beams=6, groups=3, diversity=0.4),
    ):
        assert from_dict(GenerationConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens 9 is more than max_tokens 8; lower it"),
        ({"beams": 2, "sampling": {}}, "sampling and 2 beams exclude each other; set beams to 1 or drop sampling"),
        ({"beams": 2, "candidates": 3}, "3 captions per image need at least as many beams, not 2, or sampling"),
        ({"beams": 5, "groups": 2, "diversity": 1}, "5 beams cannot be split into 2 equal groups; choose a divisor"),
        ({"beams": 4, "groups": 2}, "diversity above 0 and groups above 1 require each other"),
        ({"beams": 4, "diversity": 0.5}, "diversity above 0 and groups above 1 require each other"),
        ({"beams": 4, "groups": 2, "diversity": -1}, "diversity must be at least 0 and at most 1000, not -1"),
        ({"beams": 4, "groups": 2, "diversity": float("inf")}, "diversity must be"),
        ({"diversity": float("nan")}, "diversity must be"),
        ({"length_penalty": float("nan")}, "length_penalty must be from -100 to 100, not nan"),
        ({"length_penalty": 1e6}, "length_penalty must be"),
        ({"rules": {"require": ["dog"]}}, "require needs beam search without groups"),
        ({"rules": {"require": ["dog"]}, "sampling": {}}, "require needs beam search"),
        ({"rules": {"require": ["dog"]}, "beams": 4, "groups": 2, "diversity": 1}, "require needs beam search"),
        ({"beams": 2, "candidates": 2, "rerank": "consensus"}, "a consensus needs at least 3 candidates, not 2"),
        ({"rerank": "loudness"}, "rerank must be one of score, consensus, matching, not 'loudness'"),
        (
            {"sampling": {"temperature": 0}},
            "temperature must be a number above 0, not 0; use one beam",
        ),
        ({"sampling": {"temperature": float("nan")}}, "temperature must be a number above 0"),
        ({"sampling": {"temperature": float("inf")}}, "temperature must be a number above 0"),
        ({"sampling": {"top_k": -1}}, "top_k must be at least 0, not -1"),
        ({"sampling": {"seed": int("9" * 70)}}, "the seed has too many digits; choose a whole number of at most 18"),
        ({"sampling": {"seed": -int("9" * 70)}}, "the seed has too many digits"),
        ({"sampling": {"seed": 10**5000}}, "the seed has too many digits"),
        ({"beams": 10**400}, "generation.beams must be at most 10000; lower it"),
        ({"candidates": 10**400, "sampling": {}}, "generation.candidates must be at most 10000; lower it"),
        ({"min_tokens": -1}, "generation.min_tokens must be at least 0, not -1"),
        ({"rules": {"prefix": "caf\udce9"}}, r"'caf\\udce9' holds bytes that are not UTF-8; write the words in UTF-8"),
        ({"rules": {"forbid": ["\udcff"]}}, "holds bytes that are not UTF-8"),
        ({"beams": 2, "rules": {"require": ["a|\udcff"]}}, "holds bytes that are not UTF-8"),
        ({"rules": {"bias": {"\ud800": 1}}}, "holds bytes that are not UTF-8"),
        ({"sampling": {"top_p": 0}}, "top_p must be above 0 and at most 1, not 0"),
        ({"sampling": {"min_p": 1.1}}, "min_p must be at least 0 and at most 1, not 1.1"),
        ({"sampling": {"typical_p": float("nan")}}, "typical_p must be above 0 and at most 1"),
        ({"rules": {"repetition_penalty": 0}}, "repetition_penalty must be above 0 and at most 1000, not 0"),
        ({"rules": {"repetition_penalty": float("inf")}}, "repetition_penalty must be"),
        ({"rules": {"repetition_penalty": float("nan")}}, "repetition_penalty must be"),
        ({"rules": {"no_repeat_ngram": -1}}, "no_repeat_ngram must be at least 0, not -1"),
        ({"rules": {"require": ["dog", " "]}}, "require holds an empty word"),
        ({"rules": {"require": ["dog|"]}}, "require holds an empty word"),
        ({"rules": {"forbid": [""]}}, "forbid holds an empty word"),
        ({"rules": {"bias": {"": 1}}}, "bias holds an empty word"),
        ({"rules": {"bias": {3: 1}}}, "bias must name words or phrases, not 3"),
        ({"rules": {"bias": {"dog": float("inf")}}}, "the bias of 'dog' must be a number from -1000 to 1000, not inf"),
        ({"rules": {"bias": {"dog": float("-inf")}}}, "the bias of 'dog' must be .*; use forbid to exclude a word"),
        ({"rules": {"bias": {"dog": float("nan")}}}, "the bias of 'dog' must be"),
        ({"rules": {"bias": {"dog": "much"}}}, "the bias of 'dog' must be"),
        ({"rules": {"prefix": "a photo of a Dog,", "forbid": ["dog"]}}, "'dog' is in both forbid and prefix"),
        ({"rules": {"require": ["小女孩"], "forbid": ["女孩"]}}, "'女孩' is in both forbid and require"),
        (
            {"beams": 2, "rules": {"require": ["hot dog"], "forbid": ["dog"]}},
            "'dog' is in both forbid and require",
        ),
        ({"beams": 2, "rules": {"require": ["dog|hot dog"], "forbid": ["DOG"]}}, "'DOG' is in both forbid and"),
        ({"rules": {"bias": {"hot  dog": 1}, "forbid": ["hot dog"]}}, "'hot dog' is in both forbid and bias"),
    ],
)
def test_contradictions_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_dict(GenerationConfig, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"require": ["dog|puppy"], "forbid": ["dog"]},  # puppy will do
        {"require": ["dogs"], "forbid": ["dog"]},
        {"require": ["hot dog"], "forbid": ["dog hot"]},
        {"prefix": "a hot", "forbid": ["hot dog"]},
        {"bias": {"dog": -3, "cat": 2.5}, "forbid": ["c++ (draft)"]},
    ],
)
def test_what_only_looks_like_a_contradiction(rules: dict[str, Any]) -> None:
    from_dict(GenerationConfig, {"beams": 2, "rules": rules})


SAMPLING = GenerationConfig(sampling=SamplingConfig(temperature=0.7, seed=3), candidates=2)
BEAMS = GenerationConfig(beams=5, length_penalty=1.0, rules=WordRules(no_repeat_ngram=3))


@pytest.mark.parametrize(
    ("config", "options", "wanted"),
    [
        (BEAMS, {}, {}),
        (BEAMS, {"beams": None, "temperature": None, "prefix": None}, {}),
        (BEAMS, {"beams": 2, "max_tokens": 9}, {"beams": 2, "max_tokens": 9}),
        (BEAMS, {"prefix": "a"}, {"rules": WordRules(prefix="a", no_repeat_ngram=3)}),
        (BEAMS, {"forbid": "dog"}, {"rules": WordRules(forbid=("dog",), no_repeat_ngram=3)}),
        (BEAMS, {"forbid": ["dog", "cat"]}, {"rules": WordRules(forbid=("dog", "cat"), no_repeat_ngram=3)}),
        (BEAMS, {"temperature": 1}, {"beams": 1, "sampling": SamplingConfig(temperature=1.0)}),
        (BEAMS, {"seed": 7, "candidates": 9}, {"beams": 1, "candidates": 9, "sampling": SamplingConfig(seed=7)}),
        (BEAMS, {"sampling": SamplingConfig(top_k=3)}, {"beams": 1, "sampling": SamplingConfig(top_k=3)}),
        (BEAMS, {"candidates": 4}, {"candidates": 4}),
        (BEAMS, {"candidates": 8}, {"candidates": 8, "beams": 8}),
        (BEAMS, {"groups": 2, "diversity": 1}, {"beams": 6, "groups": 2, "diversity": 1.0}),
        (BEAMS, {"groups": 3, "diversity": 1, "candidates": 7}, {"beams": 9, "groups": 3, "candidates": 7}),
        (GenerationConfig(), {"groups": 3, "diversity": 0.5}, {"beams": 3, "groups": 3, "diversity": 0.5}),
        (GenerationConfig(), {"require": "dog"}, {"beams": 5, "rules": WordRules(require=("dog",))}),
        (GenerationConfig(beams=2), {"require": ["a"], "beams": 3}, {"beams": 3}),
        (GenerationConfig(beams=7), {"require": ["a"]}, {"beams": 7}),
        (GenerationConfig(beams=2, rules=WordRules(require=("a",))), {"max_tokens": 9}, {"beams": 2, "max_tokens": 9}),
        (GenerationConfig(beams=2, rules=WordRules(require=("a",))), {"require": []}, {"rules": WordRules()}),
        (SAMPLING, {"top_p": 0.9}, {"sampling": SamplingConfig(temperature=0.7, seed=3, top_p=0.9), "candidates": 2}),
        (SAMPLING, {"beams": 3}, {"sampling": None, "beams": 3}),
        (SAMPLING, {"beams": 1, "max_tokens": 4}, {"max_tokens": 4}),
        (SAMPLING, {"require": "dog"}, {"sampling": None, "beams": 5}),
        (SAMPLING, {"groups": 2, "diversity": 1}, {"sampling": None, "beams": 2, "groups": 2}),
        (GenerationConfig(beams=4, groups=2, diversity=1.0), {"top_k": 5}, {"beams": 1, "groups": 1, "diversity": 0.0}),
        # The checkpoint's own settings are switched off.
        (BEAMS, {"no_repeat_ngram": 0}, {"rules": WordRules()}),
        (GenerationConfig(refine=2, min_tokens=5), {"refine": 0, "min_tokens": 0}, {"refine": 0, "min_tokens": 0}),
        (
            GenerationConfig(sampling=SamplingConfig(top_k=50, min_p=0.1, top_p=0.9, typical_p=0.5)),
            {"top_k": 0, "min_p": 0, "top_p": 1, "typical_p": 1},
            {"sampling": SamplingConfig(top_k=0, min_p=0.0, top_p=1.0, typical_p=1.0)},
        ),
        (replace(SAMPLING, candidates=1), {"temperature": 0}, {"sampling": None, "beams": 1}),
        (SAMPLING, {"temperature": 0.0, "top_p": 0.5, "candidates": 1}, {"sampling": None, "beams": 1}),
        (SAMPLING, {"temperature": 0, "beams": 4}, {"sampling": None, "beams": 4}),
        (BEAMS, {"temperature": 0}, {"sampling": None, "beams": 1}),
        (GenerationConfig(beams=3, candidates=3, rerank="consensus"), {"candidates": 1}, {"rerank": "score"}),
        (
            GenerationConfig(beams=4, groups=2, diversity=1.0),
            {"groups": 1},
            {"groups": 1, "diversity": 0.0, "beams": 4},
        ),
        (GenerationConfig(beams=4, groups=2, diversity=1.0), {"diversity": 0}, {"groups": 1, "diversity": 0.0}),
    ],
)
def test_options(config: GenerationConfig, options: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = with_options(config, options)
    assert {name: getattr(found, name) for name in wanted} == wanted
    untouched = set(to_dict(config)) - {*wanted, *options, "rules", "sampling", "beams"}
    assert {name: getattr(found, name) for name in untouched} == {name: getattr(config, name) for name in untouched}
    if not wanted:
        assert found == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loudness": 3}, "unknown generation option 'loudness'"),
        ({"beams": 3, "temperature": 0.5}, "sampling and 3 beams exclude each other"),
        ({"beams": 2, "candidates": 3}, "3 captions per image need at least as many beams, not 2"),
        ({"require": "dog", "forbid": "dog"}, "'dog' is in both forbid and require"),
        ({"require": "dog", "beams": 1}, "require needs beam search"),
        ({"require": "dog", "top_k": 3}, "require needs beam search"),
        ({"groups": 2}, "diversity above 0 and groups above 1 require each other"),
        ({"groups": 0}, "generation.groups must be at least 1, not 0"),
        ({"candidates": 10**400}, "generation.beams must be at most 10000"),
        ({"groups": 10**400, "diversity": 1}, "generation.beams must be at most 10000"),
        ({"candidates": 0}, "generation.candidates must be at least 1, not 0"),
        ({"beams": "many"}, "beams must be a int, not 'many'"),
        ({"beams": 2.5}, "beams must be a int"),
        ({"forbid": [3]}, r"forbid\[0\] must be a str, not 3"),
        ({"bias": "dog"}, "bias must be a table of settings"),
        ({"rerank": "best"}, "rerank must be one of"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_options(GenerationConfig(), options)
    assert "\n" not in str(caught.value)
