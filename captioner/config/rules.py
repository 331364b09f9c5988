"""Settings of the words of a caption."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from captioner.config.option import check_limits, option
from captioner.errors import ConfigError

STRONGEST_RULE = 1000.0  # beyond it sums of log-probabilities overflow


@dataclass(frozen=True, kw_only=True)
class WordRules:
    """Constraints on the words of a caption; a word or phrase gets its bias at its last token."""

    prefix: str = field(
        default="",
        metadata=option(help="first words of every caption; the model continues them", metavar="TEXT", alias="prompt"),
    )
    require: tuple[str, ...] = field(
        default=(),
        metadata=option(
            help="required words; 'dog|puppy' is either; repeatable", metavar="WORDS", paper="Post and Vilar 2018"
        ),
    )
    forbid: tuple[str, ...] = field(default=(), metadata=option(help="forbidden words; repeatable", metavar="WORDS"))
    neutral: bool = field(
        default=False,
        metadata=option(help="neutral words for people: person, child, without presuming gender or age"),
    )
    bias: Mapping[str, float] = field(
        default_factory=dict,
        metadata=option(
            help="logit bias: add B to the log-probability of WORDS; repeatable",
            metavar="WORDS=B",
            values=f"number from -{STRONGEST_RULE:g} to {STRONGEST_RULE:g} per word or phrase",
        ),
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata=option(
            help="factor on the log-probability of words already used; 1 is off",
            metavar="F",
            above=0.0,
            most=STRONGEST_RULE,
            paper="Keskar et al. 2019",
            transformers="repetition_penalty",
        ),
    )
    no_repeat_ngram: int = field(
        default=0,
        metadata=option(
            help="repeat no N-gram of tokens; 0 is off", metavar="N", least=0, transformers="no_repeat_ngram_size"
        ),
    )

    def __post_init__(self) -> None:
        check_limits(self)
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
                if any(all(contains_phrase(choice, phrase) for choice in choices) for choices in alternatives):
                    raise ConfigError(f"{phrase!r} is in both forbid and {name}; remove it from one of them")


def is_text(text: str) -> bool:
    """Return whether UTF-8 can encode ``text``; a command line passes bytes of other encodings on as surrogates."""
    return not re.search("[\ud800-\udfff]", text)


def _plain_words(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


def contains_phrase(text: str, phrase: str) -> bool:
    """Return whether ``text`` contains the words of ``phrase``, in any case."""
    text, phrase = _plain_words(text), _plain_words(phrase)
    starts = (found.start() for found in re.finditer(rf"(?={re.escape(phrase)})", text))
    ends = ((start, start + len(phrase)) for start in starts)
    return any(
        not one_word(text[max(0, start - 1) : start], phrase[0]) and not one_word(phrase[-1], text[end : end + 1])
        for start, end in ends
    )


def one_word(left: str, right: str) -> bool:
    """Return whether ``left`` and ``right`` belong to one word; in scripts without spaces each character is a word."""
    return in_word(left) and in_word(right)


def in_word(char: str) -> bool:
    """Return whether a character continues a word: a letter, digit or accent of a script with spaces."""
    letter = char.isalnum() or (char != "" and unicodedata.category(char)[0] == "M")
    return letter and unicodedata.east_asian_width(char) not in "WF"
