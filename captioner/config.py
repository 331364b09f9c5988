"""What a captioner is made of, as frozen dataclasses with a strict way from and to plain dicts.

A checkpoint's ``config.json`` is one ``CaptionerConfig``; its ``generation.json`` one ``GenerationConfig``. Training
has recipes of its own (``captioner.training.recipe``) on the same ``from_dict``.
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
REQUIRING_BEAMS = 5  # the width of a search for words that must appear, where none is asked for
STEEPEST_LENGTH_PENALTY = 100.0  # beyond it lengths to its power leave the range of numbers
STRONGEST_RULE = 1000.0  # beyond it sums of log-probabilities do
MOST_CAPTIONS = 10_000  # beams or draws of an image; more fit no memory
SEEDS = range(-(2**63), 2**63)  # what torch's generators take
LARGEST_INPUT = 2048  # pixels of a side that a backbone is given
MOST_WEIGHTS = 10**11  # of a decoder: beyond it a size is a slip
LARGEST_COUNT = 10**9  # of words or units where more of them would change nothing


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How a photo becomes the pixels that the backbone was trained on; it travels with the weights.

    ``size``: side of the square input, pixels. ``aspect``: ``squash`` resizes both sides, ``crop`` keeps the centre
    square, ``pad`` keeps everything and fills the rest with the mean colour. ``mean``, ``std``: per channel, on 0 to 1.
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
    """A timm backbone and how its features become patch tokens of the decoder's width.

    ``backbone_args`` go to ``timm.create_model``. ``norm`` and ``positions`` (LayerNorm over the features, learned
    positions over the grid) and ``project`` (a linear map to the decoder's width) are off where an imported checkpoint
    has none of its own. ``norm_eps`` overrides the epsilon of the backbone's LayerNorms (Hugging Face ViT: 1e-12).
    """

    backbone: str = "tf_efficientnet_lite2"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = True
    positions: bool = True
    project: bool = True
    norm_eps: float | None = None


@dataclass(frozen=True, kw_only=True)
class MixedInit:
    """Where mixed attention begins, before it is trained.

    ``gate``: the share of the global reading. ``spread``: how wide the local reading of the image is, the standard
    deviation in sides of the image, above the least there is. ``points``: where its heads aim, all at the ``middle`` or
    ``apart``, on a grid over the image.
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

    ``self_pattern`` and ``cross_pattern`` are tiled over the layers: G reads globally, L locally, M mixes both by a
    learned gate. ``local_words`` is the width of the local window in tokens, the current one included. ``cross_gate``
    multiplies the cross block by tanh of a scalar that starts at zero (Alayrac et al. 2022, Flamingo). ``prefix`` is
    the number of learned keys and values that every word reads before its own past (Li and Liang 2021). ``init`` is
    where L and M begin.
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
    """The token ids that start, end and pad a caption, and whether text is lowercased before encoding.

    ``words``: the words that captions are scored by (``captioner.metrics.words``).
    ``gap_id``: a token that no caption holds; it stands for left-out words where the checkpoint has learnt to fill
    them in. ``languages``: the start token of each language that the captioner writes, the default language first;
    empty for a captioner of one language, whose captions all start with ``bos_id``.
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
        """Return these settings with the start token of ``language``; an empty name keeps the default language.

        Raises ``ConfigError`` that lists the languages for one that the captioner does not write.
        """
        if not language:
            return self
        if language not in self.languages:
            known = ", ".join(self.languages) or "one language only, without a name"
            raise ConfigError(f"this captioner does not write {language!r}; it writes {known}")
        return dataclasses.replace(self, bos_id=self.languages[language])


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """What a captioner can be asked beside for captions.

    Images and texts become directions in one space of ``width`` dimensions, near where they tell the same; an image's
    patch tokens are pooled by learned ``attention`` or by their ``mean``. ``matching``: whether it also judges if a
    caption is true of an image. ``tags``: the words that it may say of an image one by one.
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
    """Words that name what an image shows, and their tokens in the decoder's vocabulary.

    ``count``: the number of label tokens that the decoder reads of an image, those of the most probable words.
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
    """Everything needed to build the model of a checkpoint, weights aside.

    Without ``heads`` it only captions; without ``labels`` the decoder reads patches alone.
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
    """A few weights that are trained on top of a captioner that stays as it is.

    ``lora`` (Hu et al. 2022) adds ``alpha`` / ``rank`` times a product of two thin matrices to the ``targets``: linear
    layers of the decoder, by name or by the end of their path (``cross_attn.out_proj``). ``adalora`` (Zhang et al.
    2023) starts each at one and a half times ``rank`` and keeps ``rank`` on average, where it matters most. ``prefix``
    (Li and Liang 2021) learns ``length`` keys and values in every layer, which words read before their own past.
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
    """Words drawn by chance from the model's distribution, cut to its likelier part.

    ``temperature`` divides the logits. ``top_k`` keeps the k likeliest words; ``top_p`` the likeliest whose sum reaches
    p (Holtzman et al. 2020); ``min_p`` those of at least p times the likeliest's probability (Nguyen et al. 2024);
    ``typical_p`` those whose surprise is nearest to the expected one, up to the sum p (Meister et al. 2023). A
    ``top_k`` or ``min_p`` of 0 and a ``top_p`` or ``typical_p`` of 1 keep all words. The draws of an image depend on
    ``seed`` and its pixels alone.
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
                f"temperature must be a number above 0, not {self.temperature:g}; without sampling, one beam takes the "
                "likeliest words"
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
    """What a caption must or may not say.

    ``prefix`` begins every caption. ``require``: words or phrases that appear in it (constrained beam search);
    ``dog|puppy`` is met by either. ``forbid``: words or phrases that do not appear. ``bias``: what is added to the
    log-probability of a word or phrase where it is completed. ``repetition_penalty`` multiplies the log-probability of
    every token said before (Keskar et al. 2019, on log-probabilities); ``no_repeat_ngram`` forbids to say n tokens in a
    row twice.
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
                    f"the bias of {phrase!r} must be a number from -{limit} to {limit}, not {value!r}; forbid what "
                    "must not be said"
                )
        for phrase in self.forbid:
            required = [choices.split("|") for choices in self.require]
            others = {"prefix": [[self.prefix]], "require": required, "bias": [[other] for other in self.bias]}
            for name, said in others.items():
                if any(all(_says(choice, phrase) for choice in choices) for choices in said):
                    raise ConfigError(f"{phrase!r} is forbidden and stands in {name} too; take it out of one of them")


def is_text(text: str) -> bool:
    """Whether UTF-8 can write it: bytes of another encoding, as a command line passes them on, are no text."""
    return not re.search("[\ud800-\udfff]", text)


def _plain_words(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


def _says(text: str, phrase: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(_plain_words(phrase))}(?!\w)", _plain_words(text)))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How often a word written with the probability p is one that people say of the image too:
    sigmoid(slope * logit(p) + offset).

    Fitted on held-out images (Platt 1999, on the model's own log-odds); as it stands here it changes nothing.
    """

    slope: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How captions are written. ``beams`` 1 is greedy, or drawn where there is ``sampling``.

    ``min_tokens`` and ``max_tokens`` count the end token and a prefix, not the start token. A finished caption is
    ranked by its log-probability over ``length ** length_penalty``, its end token counted (Wu et al. 2016 in Hugging
    Face's simpler form); 0 ranks by the plain sum. ``groups`` of beams search one after the other, each held off by
    ``diversity`` times how often earlier groups chose a word at that place (Vijayakumar et al. 2018, Hamming
    diversity). ``language``: that of the captions, where the captioner writes several; empty is its default language.
    ``candidates`` captions of an image compete: the best beams, or as many draws. ``rerank`` says for
    what: their own ``score``, ``consensus`` with the others, or ``matching`` with the image, by a head that judges it.
    The best one is rewritten where the model doubts it, in up to ``refine`` rounds.
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
            raise ConfigError(f"sampling draws words, {self.beams} beams search for them; set beams to 1 or drop it")
        if self.sampling is None and self.candidates > self.beams:
            raise ConfigError(
                f"{self.candidates} captions per image need at least as many beams, not {self.beams}, or sampling"
            )
        if self.beams % self.groups:
            raise ConfigError(f"{self.beams} beams do not make {self.groups} equal groups; choose a divisor")
        if not 0 <= self.diversity <= STRONGEST_RULE:
            raise ConfigError(f"diversity must be at least 0 and at most {STRONGEST_RULE:g}, not {self.diversity:g}")
        if (self.diversity > 0) != (self.groups > 1):
            raise ConfigError("diversity above 0 and groups above 1 belong together; set both or neither")
        if not abs(self.length_penalty) <= STEEPEST_LENGTH_PENALTY:
            limit = f"{STEEPEST_LENGTH_PENALTY:g}"
            raise ConfigError(f"length_penalty must be from -{limit} to {limit}, not {self.length_penalty:g}")
        if self.rules.require and (self.beams == 1 or self.groups > 1):
            raise ConfigError("words that must appear need a beam search without groups; set beams to 2 or more")
        if self.rerank == "consensus" and self.candidates < 3:
            raise ConfigError(f"a consensus needs at least 3 candidates, not {self.candidates}; set candidates")
        if self.rerank == "matching" and self.candidates < 2:
            raise ConfigError("matching chooses among candidates, and there is 1; set candidates to 2 or more")
        if self.refine < 0:
            raise ConfigError(f"refine must be at least 0, not {self.refine}")
        if self.refine and self.rules.require:
            raise ConfigError("refine may rewrite the words that must appear; leave out one of the two")
        if self.refine and self.rerank == "consensus" and self.sampling is not None:
            raise ConfigError(
                "refine changes the drawn captions whose frequencies a consensus counts; leave out one of the two, or "
                "search with beams"
            )


def with_options(config: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    """``config`` with single settings changed, named as in it, its ``sampling`` or its ``rules``; None changes nothing.

    Asking for sampling turns beams off where these are not asked for too; beams, groups and words that must appear turn
    sampling off. So does a temperature of 0, at which only the likeliest word is ever drawn. One group has no
    diversity, and without diversity there is one group; a single candidate is not reranked. Where the number of beams
    is not asked for, there are as many as candidates, groups and words that must appear need. Raises ``ConfigError``
    for settings that contradict each other.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("candidates") == 1:
        given.setdefault("rerank", "score")
    if given.get("groups") == 1:
        given.setdefault("diversity", 0.0)
    if given.get("diversity") == 0:
        given.setdefault("groups", 1)
    parts: dict[str, dict[str, Any]] = {"": {}, "sampling": {}, "rules": {}}
    for name, value in given.items():
        for part, kind in (("", GenerationConfig), ("sampling", SamplingConfig), ("rules", WordRules)):
            if name in (hints := typing.get_type_hints(kind)):
                one_word = isinstance(value, str) and name in ("require", "forbid")
                parts[part][name] = _convert(hints[name], [value] if one_word else value, name)
                break
        else:
            raise ConfigError(f"there is no setting {name!r} of generation")
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
    """Raise ``ConfigError`` for a seed that no generator takes."""
    if seed not in SEEDS:
        raise ConfigError("the seed has too many digits; choose a whole number of at most 18")


def _at_least_one(config: object, table: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{table}.{name}".lstrip(".") + f" must be at least 1, not {getattr(config, name)}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain dicts, lists and scalars, ready for JSON."""
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

    ``where`` names the place in messages (``decoder.``). Raises ``ConfigError`` for an unknown key (naming the nearest
    known one), a missing one, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where.rstrip('.') or kind.__name__} must be a table of settings, not {quoted(values)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:80], fields, n=1, cutoff=0)
            remedy = f"did you mean {where}{near[0]}?" if near else "there are none here"
            raise ConfigError(f"unknown setting {where}{quoted(str(key))[1:-1]}; {remedy}")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"setting {where}{name} is missing")
    made = kind(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()})
    for name in fields:  # JSON and TOML know infinity and NaN
        value = getattr(made, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{where}{name} must be of finite numbers, not {quoted(value)}")
    return made


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
