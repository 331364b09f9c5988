"""Configuration dataclasses, and their strict conversion from and to plain dicts.

The ``config.json`` of a checkpoint is a ``CaptionerConfig``, its ``generation.json`` a ``GenerationConfig``. Training
recipes (``captioner.training.recipe``) use the same ``from_dict``.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from captioner.errors import ConfigError, quoted

Aspect = Literal["squash", "crop", "pad"]
Words = Literal["ptb", "characters", "jieba"]
T = TypeVar("T")
REQUIRING_BEAMS = 5  # default number of beams with required words
STEEPEST_LENGTH_PENALTY = 100.0  # beyond it length ** penalty overflows
STRONGEST_RULE = 1000.0  # beyond it sums of log-probabilities overflow
MOST_CAPTIONS = 10_000  # beams or samples of an image; more do not fit into memory
SEEDS = range(-(2**63), 2**63)  # the seeds that torch's generators accept
LARGEST_INPUT = 2048  # pixels, side of a backbone's input
MOST_WEIGHTS = 10**11  # in a decoder; a larger number is a typing error
LARGEST_COUNT = 10**9  # of words or units, where a larger number would change nothing


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """The preprocessing that the backbone was trained with; saved with the weights.

    size: Side of the square input, in pixels.
    aspect: ``squash`` resizes both sides, ``crop`` keeps the centre square, ``pad`` pads with the mean colour.
    mean, std: Normalisation per channel, for values from 0 to 1.
    """

    size: int = 288
    aspect: Aspect = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        _at_least_one(self, "preprocess", "size")
        if self.size > LARGEST_INPUT:
            raise ConfigError(f"preprocess.size must be at most {LARGEST_INPUT} pixels, not {self.size}")
        if min(self.std) <= 0:
            raise ConfigError(f"preprocess.std must be above 0, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A timm backbone, and the layers that turn its features into patch tokens of the decoder's width.

    backbone: The timm model name.
    backbone_args: Arguments for ``timm.create_model``.
    norm, positions, project: LayerNorm over the features, learned positions over the grid, linear projection to the
        decoder's width. Each is off if an imported checkpoint lacks it.
    norm_eps: Epsilon of the backbone's LayerNorms, instead of its own (Hugging Face ViT: 1e-12).
    """

    backbone: str = "tf_efficientnet_lite2"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = True
    positions: bool = True
    project: bool = True
    norm_eps: float | None = None


@dataclass(frozen=True, kw_only=True)
class MixedInit:
    """The initial values of mixed attention, before training.

    gate: Share of global attention.
    spread: Width of local attention over the image: standard deviation above the minimum, in sides of the image.
    points: Centres of the heads: all in the ``middle``, or ``apart`` on a grid over the image.
    """

    gate: float = 0.5
    spread: float = 0.25
    points: Literal["middle", "apart"] = "middle"

    def __post_init__(self) -> None:
        if not 0 < self.gate < 1:
            raise ConfigError(f"decoder.init.gate must be above 0 and below 1, not {self.gate:g}")
        if not 0 < self.spread <= 10:
            raise ConfigError(f"decoder.init.spread must be above 0 and at most 10, not {self.spread:g}")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A GPT-2 decoder with cross-attention (Radford et al. 2019).

    context: Longest caption, in tokens.
    mlp_width: Width of the MLP; None is 4 times ``width``.
    self_pattern, cross_pattern: Attention per layer, tiled over the layers: G global, L local, M a learned mix of both.
    local_words: Width of the local window, in tokens, including the current one.
    cross_gate: Multiply the cross block by tanh of a scalar that starts at zero (Alayrac et al. 2022, Flamingo).
    prefix: Number of learned keys and values in front of every word's past (Li and Liang 2021).
    init: Initial values of L and M.
    """

    vocab_size: int
    context: int = 64
    width: int = 384
    layers: int = 4
    heads: int = 6
    mlp_width: int | None = None
    dropout: float = 0.1
    self_pattern: str = "G"
    cross_pattern: str = "G"
    local_words: int = 4
    cross_gate: bool = False
    norm_eps: float = 1e-5
    prefix: int = 0
    init: MixedInit = field(default_factory=MixedInit)

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context", "width", "layers", "heads", "local_words")
        _at_least_one(self, "decoder", *sizes, *(["mlp_width"] if self.mlp_width is not None else []))
        if self.prefix < 0:
            raise ConfigError(f"decoder.prefix must be at least 0, not {self.prefix}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"decoder.dropout must be at least 0 and below 1, not {self.dropout}")
        if self.width % self.heads:
            raise ConfigError(f"decoder.width {self.width} is not a multiple of decoder.heads {self.heads}")
        if self.local_words > LARGEST_COUNT:
            raise ConfigError(f"decoder.local_words must be at most {LARGEST_COUNT}, not {quoted(self.local_words)}")
        weights = self.width * (self.vocab_size + self.context + self.layers * (8 * self.width + self.prefix))
        if weights + 2 * self.layers * self.width * (self.mlp_width or 0) > MOST_WEIGHTS:
            raise ConfigError(
                f"a decoder of vocab_size {self.vocab_size}, context {self.context}, width {self.width} and "
                f"{self.layers} layers has more than {MOST_WEIGHTS:.0e} weights; lower one of them"
            )
        for name in ("self_pattern", "cross_pattern"):
            pattern = getattr(self, name)
            if not pattern or set(pattern) - set("GLM"):
                raise ConfigError(f"decoder.{name} {pattern!r} must be made of the letters G, L and M")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The special tokens, the case of text and the languages of a captioner.

    bos_id, eos_id, pad_id: Ids of the start, end and padding token.
    lowercase: Lowercase text before encoding.
    words: The words that metrics count (``captioner.metrics.words``).
    gap_id: Token for masked words, in checkpoints trained to fill them in; no caption contains it.
    languages: Start token of each language, the default one first; empty for a captioner of one language, whose
        captions start with ``bos_id``.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    lowercase: bool = True
    words: Words = "ptb"
    gap_id: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, start in self.languages.items():
            if isinstance(start, bool) or not isinstance(start, int) or start < 0:
                raise ConfigError(f"text.languages.{name} must be the id of a start token, not {start!r}")
        if self.languages and self.bos_id not in self.languages.values():
            raise ConfigError(f"text.bos_id {self.bos_id} must be the start token of one of text.languages")

    def speaking(self, language: str) -> TextConfig:
        """Return this config with the start token of ``language``; an empty name keeps the default language.

        Raises ``ConfigError`` for a language that the captioner does not write.
        """
        if not language:
            return self
        if language not in self.languages:
            known = ", ".join(self.languages) or "one language only, without a name"
            raise ConfigError(f"this captioner does not write {language!r}; it writes {known}")
        return dataclasses.replace(self, bos_id=self.languages[language])


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Heads for tasks other than captioning: retrieval, matching, tagging.

    width: Size of the shared embedding of images and texts.
    pooling: Pooling of the patch tokens: learned ``attention``, or the ``mean``.
    matching: Add a head that judges whether a caption matches an image.
    tags: The words that the tagging head predicts.
    """

    width: int = 256
    pooling: Literal["attention", "mean"] = "attention"
    matching: bool = True
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least_one(self, "heads", "width")
        if len(set(self.tags)) < len(self.tags):
            raise ConfigError("heads.tags must name each word once")


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """Labels that name what an image shows.

    words: The labels.
    tokens: Tokens of each label in the decoder's vocabulary.
    count: Number of labels of an image, the most probable ones, that the decoder attends to.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    count: int = 8

    def __post_init__(self) -> None:
        _at_least_one(self, "labels", "count")
        if not self.words or len(set(self.words)) < len(self.words):
            raise ConfigError("labels.words must name each word once, and one at least")
        if len(self.words) != len(self.tokens) or not all(self.tokens):
            raise ConfigError("labels.tokens must hold the tokens of each of labels.words")


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Everything needed to build the model of a checkpoint, except its weights.

    Without ``heads`` it only captions; without ``labels`` the decoder attends to patches only.
    """

    vision: VisionConfig
    decoder: DecoderConfig
    text: TextConfig
    preprocess: PreprocessConfig
    heads: HeadsConfig | None = None
    labels: LabelsConfig | None = None

    def __post_init__(self) -> None:
        vocabulary = self.decoder.vocab_size
        if self.labels is not None and not all(
            0 <= token < vocabulary for tokens in self.labels.tokens for token in tokens
        ):
            raise ConfigError(f"labels.tokens must lie in the vocabulary of {vocabulary} tokens")
        if self.labels is not None and max(map(len, self.labels.tokens)) > self.decoder.context:
            raise ConfigError(f"labels.tokens must name each word with at most {self.decoder.context} tokens")
        starts = {f"languages.{name}": token for name, token in self.text.languages.items()}
        ids = {name: getattr(self.text, name) for name in ("bos_id", "eos_id", "pad_id", "gap_id")}
        for name, token in (ids | starts).items():
            if token is not None and not 0 <= token < vocabulary:
                raise ConfigError(
                    f"text.{name} must be the id of one of the {vocabulary} tokens, 0 to {vocabulary - 1}, not {token}"
                )


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """An adapter: a few weights trained on top of a frozen captioner.

    method: ``lora`` (Hu et al. 2022) adds ``alpha`` / ``rank`` times a product of two thin matrices to each target.
        ``adalora`` (Zhang et al. 2023) starts with 1.5 times ``rank`` and prunes the least important ones to ``rank``
        on average. ``prefix`` (Li and Liang 2021) learns ``length`` keys and values in every layer.
    targets: Linear layers of the decoder, by name or by the end of their path (``cross_attn.out_proj``).
    """

    method: Literal["lora", "adalora", "prefix"]
    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "qkv_proj", "kv_proj", "out_proj", "fc1", "fc2")
    length: int = 8

    def __post_init__(self) -> None:
        _at_least_one(self, "adapter", "rank", "alpha", "length")
        if self.alpha > LARGEST_COUNT:
            raise ConfigError(f"adapter.alpha must be at most {LARGEST_COUNT}, not {quoted(self.alpha)}")
        if not self.targets or not all(self.targets):
            raise ConfigError("adapter.targets must name linear layers of the decoder, such as q_proj")


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
        _at_least_one(self, "generation", "beams", "max_tokens", "groups", "candidates")
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
                parts[part][name] = _convert(hints[name], [value] if single else value, name)
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


def _at_least_one(config: object, table: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{table}.{name}".lstrip(".") + f" must be at least 1, not {getattr(config, name)}")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts, lists and scalars, ready for JSON."""
    return typing.cast(dict[str, Any], _plain(config))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass ``kind`` from plain values, strictly.

    ``where`` prefixes key names in messages (``decoder.``). Raises ``ConfigError`` for an unknown key (with the closest
    known one), a missing key, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where.rstrip('.') or kind.__name__} must be a table of settings, not {quoted(values)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:80], fields, n=1, cutoff=0)
            remedy = f"did you mean {where}{near[0]}?" if near else "no settings are allowed here"
            raise ConfigError(f"unknown setting {where}{quoted(str(key))[1:-1]}; {remedy}")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"setting {where}{name} is missing")
    config = kind(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()})
    for name in fields:  # JSON and TOML can contain infinity and NaN
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{where}{name} must be of finite numbers, not {quoted(value)}")
    return config


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{name} must be one of {', '.join(map(str, args))}, not {quoted(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list, not {quoted(value)}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{name} must have {len(inner)} values, not {len(value)}")
        return tuple(_convert(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(inner, value, strict=True)))
    if dataclasses.is_dataclass(hint):
        return (
            value
            if isinstance(value, typing.cast(type, hint))
            else from_dict(typing.cast(Any, hint), value, where=f"{name}.")
        )
    if hint is Any:
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {quoted(value)}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else math.inf
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{name} must be a {hint.__name__}, not {quoted(value)}")
    return value
