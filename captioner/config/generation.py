"""Settings of generation: search, sampling, word rules, calibration."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.config.schema import at_least_one, convert
from captioner.errors import ConfigError

REQUIRING_BEAMS = 5  # default number of beams with required words
STEEPEST_LENGTH_PENALTY = 100.0  # beyond it length ** penalty overflows
STRONGEST_RULE = 1000.0  # beyond it sums of log-probabilities overflow
MOST_CAPTIONS = 10_000  # beams or samples of an image; more do not fit into memory
SEEDS = range(-(2**63), 2**63)  # the seeds that torch's generators accept


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Sampling from the model's distribution, after truncation.

    temperature: Divisor of the logits.
    top_k: Keep the k most probable tokens; 0 keeps all.
    top_p: Keep the most probable tokens whose sum reaches p (Holtzman et al. 2020); 1 keeps all.
    min_p: Keep tokens with at least p times the highest probability (Nguyen et al. 2024); 0 keeps all.
    typical_p: Locally typical sampling with mass p (Meister et al. 2022); 1 keeps all.
    seed: Random seed; the samples of an image depend only on it and on the pixels.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(
                f"temperature must be a number above 0, not {self.temperature:g}; use one beam without sampling for "
                "greedy decoding"
            )
        if self.top_k is not None and self.top_k < 0:
            raise ConfigError(f"top_k must be at least 0, not {self.top_k}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be at least 0 and at most 1, not {self.min_p:g}")
        for name in ("top_p", "typical_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, not {value:g}")
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class WordRules:
    """Constraints on the words of a caption.

    prefix: First words of every caption.
    require: Words or phrases that must appear (constrained beam search); ``dog|puppy`` is met by either.
    forbid: Words or phrases that must not appear.
    bias: Value added to the log-probability of a word or phrase at its last token.
    repetition_penalty: Factor on the log-probability of every previous token (Keskar et al. 2019).
    no_repeat_ngram: Size n of the token n-grams that may not repeat; 0 allows all.
    """

    prefix: str = ""
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    bias: Mapping[str, float] = field(default_factory=dict)
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.repetition_penalty <= STRONGEST_RULE:
            raise ConfigError(
                f"repetition_penalty must be above 0 and at most {STRONGEST_RULE:g}, not {self.repetition_penalty:g}"
            )
        if self.no_repeat_ngram < 0:
            raise ConfigError(f"no_repeat_ngram must be at least 0, not {self.no_repeat_ngram}")
        for name in ("require", "forbid", "bias"):
            for phrase in getattr(self, name):
                if not isinstance(phrase, str):
                    raise ConfigError(f"{name} must name words or phrases, not {phrase!r}")
                if not all(map(_plain_words, phrase.split("|") if name == "require" else [phrase])):
                    raise ConfigError(f"{name} holds an empty word; name words or phrases")
        for phrase in (self.prefix, *self.require, *self.forbid, *self.bias):
            if not is_text(phrase):
                raise ConfigError(f"{phrase[:40]!r} holds bytes that are not UTF-8; write the words in UTF-8")
        for phrase, value in self.bias.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= STRONGEST_RULE:
                limit = f"{STRONGEST_RULE:g}"
                raise ConfigError(
                    f"the bias of {phrase!r} must be a number from -{limit} to {limit}, not {value!r}; use forbid to "
                    "exclude a word"
                )
        for phrase in self.forbid:
            required = [choices.split("|") for choices in self.require]
            others = {"prefix": [[self.prefix]], "require": required, "bias": [[other] for other in self.bias]}
            for name, alternatives in others.items():
                if any(all(_says(choice, phrase) for choice in choices) for choices in alternatives):
                    raise ConfigError(f"{phrase!r} is in both forbid and {name}; remove it from one of them")


def is_text(text: str) -> bool:
    """Return whether UTF-8 can encode ``text``; a command line passes bytes of other encodings on as surrogates."""
    return not re.search("[\ud800-\udfff]", text)


def _plain_words(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


def _says(text: str, phrase: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(_plain_words(phrase))}(?!\w)", _plain_words(text)))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of word probabilities: P(people use the word too) = sigmoid(slope * logit(p) + offset).

    Fitted on held-out images (Platt 1999, on the model's own log-odds); the defaults are the identity.
    """

    slope: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Decoding options.

    ::

        config = GenerationConfig(beams=5, candidates=5, rerank="consensus")
        config = with_options(config, {"temperature": 0.7, "top_p": 0.9})  # turns sampling on

    beams: Number of beams; 1 is greedy decoding, or sampling if ``sampling`` is set.
    min_tokens, max_tokens: Length with the end token and a prefix, without the start token.
    length_penalty: Rank captions by log-probability / length ** length_penalty, the length with the end token (Wu et
        al. 2016 in Hugging Face's simpler form); 0 ranks by log-probability.
    groups: Groups of beams that search one after the other (diverse beam search, Vijayakumar et al. 2018).
    diversity: Penalty for each time that an earlier group chose the same token at the same step (Hamming diversity).
    candidates: Captions per image to choose from: the best beams, or as many samples.
    rerank: Criterion of the choice: their ``score``, ``consensus`` among them, or ``matching`` (matching head).
    refine: Most rounds of rewriting the least probable words of the best candidate.
    language: Language of the captions; empty is the captioner's default.
    """

    beams: int = 1
    min_tokens: int = 1
    max_tokens: int = 32
    length_penalty: float = 0.0
    groups: int = 1
    diversity: float = 0.0
    sampling: SamplingConfig | None = None
    rules: WordRules = field(default_factory=WordRules)
    candidates: int = 1
    rerank: Literal["score", "consensus", "matching"] = "score"
    refine: int = 0
    language: str = ""
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        at_least_one(self, "generation", "beams", "max_tokens", "groups", "candidates")
        for name in ("beams", "candidates", "refine"):
            if getattr(self, name) > MOST_CAPTIONS:
                raise ConfigError(f"generation.{name} must be at most {MOST_CAPTIONS}; lower it")
        if self.min_tokens < 0:
            raise ConfigError(f"generation.min_tokens must be at least 0, not {self.min_tokens}")
        if self.min_tokens > self.max_tokens:
            raise ConfigError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}; lower it")
        if self.sampling is not None and self.beams > 1:
            raise ConfigError(f"sampling and {self.beams} beams exclude each other; set beams to 1 or drop sampling")
        if self.sampling is None and self.candidates > self.beams:
            raise ConfigError(
                f"{self.candidates} captions per image need at least as many beams, not {self.beams}, or sampling"
            )
        if self.beams % self.groups:
            raise ConfigError(f"{self.beams} beams cannot be split into {self.groups} equal groups; choose a divisor")
        if not 0 <= self.diversity <= STRONGEST_RULE:
            raise ConfigError(f"diversity must be at least 0 and at most {STRONGEST_RULE:g}, not {self.diversity:g}")
        if (self.diversity > 0) != (self.groups > 1):
            raise ConfigError("diversity above 0 and groups above 1 require each other; set both or neither")
        if not abs(self.length_penalty) <= STEEPEST_LENGTH_PENALTY:
            limit = f"{STEEPEST_LENGTH_PENALTY:g}"
            raise ConfigError(f"length_penalty must be from -{limit} to {limit}, not {self.length_penalty:g}")
        if self.rules.require and (self.beams == 1 or self.groups > 1):
            raise ConfigError("require needs beam search without groups; set beams to 2 or more, and groups to 1")
        if self.rerank == "consensus" and self.candidates < 3:
            raise ConfigError(f"a consensus needs at least 3 candidates, not {self.candidates}; set candidates")
        if self.rerank == "matching" and self.candidates < 2:
            raise ConfigError("rerank matching needs at least 2 candidates, not 1; set candidates")
        if self.refine < 0:
            raise ConfigError(f"refine must be at least 0, not {self.refine}")
        if self.refine and self.rules.require:
            raise ConfigError("refine could rewrite the required words; set refine or require, not both")
        if self.refine and self.rerank == "consensus" and self.sampling is not None:
            raise ConfigError(
                "refine would change the samples whose frequencies a consensus counts; set one of the two, or use beam "
                "search"
            )


def with_options(config: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    """Return ``config`` with changed options: fields of it, of its ``sampling`` or of its ``rules``; None is ignored.

    Options imply others unless these are set too. Sampling options set ``beams`` to 1. Beams, groups, ``require`` and a
    temperature of 0 turn sampling off. One group implies no diversity, and no diversity one group. A single candidate
    is not reranked. ``beams`` becomes as large as candidates, groups and ``require`` need. Raises ``ConfigError`` for
    contradictory options.
    """
    settings = {name: value for name, value in options.items() if value is not None}
    if settings.get("candidates") == 1:
        settings.setdefault("rerank", "score")
    if settings.get("groups") == 1:
        settings.setdefault("diversity", 0.0)
    if settings.get("diversity") == 0:
        settings.setdefault("groups", 1)
    parts: dict[str, dict[str, Any]] = {"": {}, "sampling": {}, "rules": {}}
    for name, value in settings.items():
        for part, kind in (("", GenerationConfig), ("sampling", SamplingConfig), ("rules", WordRules)):
            if name in (hints := typing.get_type_hints(kind)):
                single = isinstance(value, str) and name in ("require", "forbid")
                parts[part][name] = convert(hints[name], [value] if single else value, name)
                break
        else:
            raise ConfigError(f"unknown generation option {name!r}")
    changes = parts[""]
    rules = dataclasses.replace(changes.get("rules", config.rules), **parts["rules"])
    requiring = bool(rules.require) and ("rules" in changes or "require" in parts["rules"])
    if parts["sampling"].get("temperature") == 0:
        changes = {"beams": 1, "groups": 1, "diversity": 0.0} | changes | {"sampling": None}
    elif parts["sampling"] or "sampling" in changes:
        sampling = changes.get("sampling") or config.sampling or SamplingConfig()
        changes["sampling"] = dataclasses.replace(sampling, **parts["sampling"])
        changes = {"beams": 1, "groups": 1, "diversity": 0.0} | changes
    elif changes.get("beams", 1) > 1 or changes.get("groups", 1) > 1 or requiring:
        changes["sampling"] = None
    if "beams" not in changes and changes.get("sampling", config.sampling) is None:
        groups, candidates = (changes.get(name, getattr(config, name)) for name in ("groups", "candidates"))
        beams = max(config.beams, candidates, REQUIRING_BEAMS if requiring else 1)
        changes["beams"] = -(-beams // groups) * groups if groups > 0 else beams  # the next multiple
    return dataclasses.replace(config, **{**changes, "rules": rules})


def check_seed(seed: int) -> None:
    """Raise ``ConfigError`` for a seed outside the range of torch's generators."""
    if seed not in SEEDS:
        raise ConfigError("the seed has too many digits; choose a whole number of at most 18")
