"""Settings of generation: search, choice among candidates, calibration."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from captioner.config.option import Option, check_limits, option, option_of
from captioner.config.rules import STRONGEST_RULE, WordRules
from captioner.config.sampling import SamplingConfig
from captioner.config.schema import convert
from captioner.errors import ConfigError

REQUIRING_BEAMS = 5  # default number of beams with required words
STEEPEST_LENGTH_PENALTY = 100.0  # beyond it length ** penalty overflows
MOST_CAPTIONS = 10_000  # beams or samples of an image; more do not fit into memory


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of word probabilities: P(people use the word too) = sigmoid(slope * logit(p) + offset).

    Fitted on held-out images (Platt 1999, on the model's own log-odds); the defaults are the identity.
    """

    slope: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Decoding options, in the order of the command line and the documentation.

    ::

        config = GenerationConfig(beams=5, candidates=5, rerank="consensus")
        config = with_options(config, {"temperature": 0.7, "top_p": 0.9})  # turns sampling on

    One beam is greedy decoding, or sampling if ``sampling`` is set. The tokens of a length include those of a prefix,
    but not the start token.
    """

    beams: int = field(
        default=1,
        metadata=option(
            help="beam search with N beams; 1 is greedy decoding",
            metavar="N",
            least=1,
            most=MOST_CAPTIONS,
            transformers="num_beams",
        ),
    )
    candidates: int = field(
        default=1,
        metadata=option(
            help="candidates per photo to choose the best from: N beams, or N samples",
            metavar="N",
            least=1,
            most=MOST_CAPTIONS,
        ),
    )
    rerank: Literal["score", "consensus", "matching"] = field(
        default="score",
        metadata=option(help="rerank candidates by their score, by consensus among them, or by image-text matching"),
    )
    refine: int = field(
        default=0,
        metadata=option(
            help="refinement: rewrite improbable words in up to N rounds, keep the better caption; 0 is off",
            metavar="N",
            least=0,
            most=MOST_CAPTIONS,
        ),
    )
    length_penalty: float = field(
        default=0.0,
        metadata=option(
            help="rank by log-probability / length ** P",
            metavar="P",
            least=-STEEPEST_LENGTH_PENALTY,
            most=STEEPEST_LENGTH_PENALTY,
            paper="Wu et al. 2016 in Hugging Face's simpler form",
            transformers="length_penalty",
        ),
    )
    min_tokens: int = field(
        default=1,
        metadata=option(help="minimum length in tokens, with the end token; 0 is off", metavar="N", least=0),
    )
    max_tokens: int = field(
        default=32, metadata=option(help="maximum length in tokens, with the end token", metavar="N", least=1)
    )
    groups: int = field(
        default=1,
        metadata=option(
            help="diverse beam search: N groups, see --diversity",
            metavar="N",
            least=1,
            paper="Vijayakumar et al. 2018",
            transformers="num_beam_groups",
        ),
    )
    diversity: float = field(
        default=0.0,
        metadata=option(
            help="diverse beam search: penalty for each earlier group that chose the same word there",
            metavar="D",
            least=0.0,
            most=STRONGEST_RULE,
            transformers="diversity_penalty",
        ),
    )
    sampling: SamplingConfig | None = None
    rules: WordRules = field(default_factory=WordRules)
    language: str = field(
        default="",
        metadata=option(
            help="language of the captions, en or zh, if the model writes several",
            metavar="LANG",
        ),
    )
    label_weight: float = field(
        default=0.0,
        metadata=option(
            help="favour the words of probable labels and avoid those of improbable ones, with this weight; 0 is off",
            metavar="W",
            least=0.0,
            most=STRONGEST_RULE,
            paper="Gulcehre et al. 2015, shallow fusion",
        ),
    )
    name_sure_labels: float = field(
        default=0.0,
        metadata=option(
            help="rewrite a caption that omits a label of at least probability P, if a good one names it; 0 is off",
            metavar="P",
            least=0.0,
            most=1.0,
            paper="Anderson et al. 2017",
        ),
    )
    check_colour: bool = field(
        default=False,
        metadata=option(
            help="caption a colour photo again if its caption calls it black and white",
            paper="Hasler and Süsstrunk 2003",
        ),
    )
    unsure: float = field(
        default=0.0,
        metadata=option(
            help="mark captions with a confidence below P as unsure; 0 is off", metavar="P", least=0.0, most=1.0
        ),
    )
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        check_limits(self, "generation")
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
        if (self.diversity > 0) != (self.groups > 1):
            raise ConfigError("diversity above 0 and groups above 1 require each other; set both or neither")
        if self.rules.require and (self.beams == 1 or self.groups > 1):
            raise ConfigError("require needs beam search without groups; set beams to 2 or more, and groups to 1")
        if self.rerank == "consensus" and self.candidates < 3:
            raise ConfigError(f"a consensus needs at least 3 candidates, not {self.candidates}; set candidates")
        if self.rerank == "matching" and self.candidates < 2:
            raise ConfigError("rerank matching needs at least 2 candidates, not 1; set candidates")
        if self.sampling is not None and self.name_sure_labels:
            raise ConfigError("name_sure_labels needs a search; drop sampling, or set name_sure_labels to 0")
        if self.refine and self.rules.require:
            raise ConfigError("refine could rewrite the required words; set refine or require, not both")
        if self.refine and self.rerank == "consensus" and self.sampling is not None:
            raise ConfigError(
                "refine would change the samples whose frequencies a consensus counts; set one of the two, or use beam "
                "search"
            )


PARTS = {"sampling": SamplingConfig, "rules": WordRules}


@dataclass(frozen=True, kw_only=True)
class GenerationOption:
    """An option of generation, from the field that declares it."""

    part: str  # the field of ``GenerationConfig`` that holds it: sampling or rules; empty for its own fields
    hint: Any  # its type
    default: Any
    option: Option


@cache
def generation_options() -> Mapping[str, GenerationOption]:
    """Return all options of generation by their names, which need no names of parts, in order."""
    return dict(_options(GenerationConfig))


def _options(kind: Any, part: str = "") -> Iterator[tuple[str, GenerationOption]]:
    hints = typing.get_type_hints(kind)
    for f in dataclasses.fields(kind):
        if (described := option_of(f)) is not None:
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            yield f.name, GenerationOption(part=part, hint=hints[f.name], default=default, option=described)
        elif f.name in PARTS:
            yield from _options(PARTS[f.name], f.name)


def with_options(config: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    """Return ``config`` with changed options: fields of it, of its ``sampling`` or of its ``rules``; None is ignored.

    Options imply others unless these are set too. Sampling options set ``beams`` to 1 and ``name_sure_labels`` to 0.
    Beams, groups, ``require``, ``name_sure_labels`` and a temperature of 0 turn sampling off. One group implies no
    diversity, and no diversity one group. A single candidate is not reranked. ``beams`` becomes as large as candidates,
    groups and ``require`` need. Raises ``ConfigError`` for contradictory options.
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
        if (known := generation_options().get(name)) is not None:
            single = isinstance(value, str) and name in ("require", "forbid")
            parts[known.part][name] = convert(known.hint, [value] if single else value, name)
        elif name in (*PARTS, "calibration"):
            parts[""][name] = convert(typing.get_type_hints(GenerationConfig)[name], value, name)
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
        changes = {"beams": 1, "groups": 1, "diversity": 0.0, "name_sure_labels": 0.0} | changes
    elif changes.get("beams", 1) > 1 or changes.get("groups", 1) > 1 or requiring or changes.get("name_sure_labels"):
        changes["sampling"] = None
    if "beams" not in changes and changes.get("sampling", config.sampling) is None:
        groups, candidates = (changes.get(name, getattr(config, name)) for name in ("groups", "candidates"))
        beams = max(config.beams, candidates, REQUIRING_BEAMS if requiring else 1)
        changes["beams"] = -(-beams // groups) * groups if groups > 0 else beams  # the next multiple
    return dataclasses.replace(config, **{**changes, "rules": rules})
