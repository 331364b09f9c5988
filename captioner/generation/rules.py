"""Rules in words become what the searches ask for: processors, a prefix in tokens, phrases to complete."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config import GenerationConfig
from captioner.errors import UsageError
from captioner.generation.constrained import Phrase
from captioner.generation.processors import (
    Processor,
    minimum_length,
    no_repeat_ngram,
    phrase_bias,
    repetition_penalty,
)
from captioner.text import CaptionTokenizer


@dataclass(frozen=True)
class Rules:
    """``WordRules`` in the tokens of one checkpoint."""

    processors: tuple[Processor, ...] = ()
    prefix: tuple[int, ...] = ()
    require: tuple[Phrase, ...] = ()


NO_RULES = Rules()


def compile_rules(config: GenerationConfig, tokenizer: CaptionTokenizer) -> Rules:
    """The rules of ``config``. Raises ``UsageError`` where the caption may not be long enough for them."""
    rules = config.rules
    processors: list[Processor] = []
    if rules.repetition_penalty != 1:
        processors.append(repetition_penalty(rules.repetition_penalty))
    if rules.no_repeat_ngram:
        processors.append(no_repeat_ngram(rules.no_repeat_ngram))
    phrases = {**rules.bias, **dict.fromkeys(rules.forbid, float("-inf"))}
    if phrases:
        processors.append(phrase_bias(phrases, tokenizer))
    if config.min_tokens > 1:
        processors.append(minimum_length(config.min_tokens, tokenizer.config.eos_id))
    prefix = tuple(tokenizer.encode(rules.prefix))
    require = tuple(_phrase(phrase, tokenizer) for phrase in rules.require)
    needed = len(prefix) + sum(phrase.length for phrase in require) + 1
    if needed > config.max_tokens:
        raise UsageError(
            f"the prefix and the words that must appear need {needed} tokens with the end, more than max_tokens "
            f"{config.max_tokens}; raise it"
        )
    return Rules(tuple(processors), prefix, require)


def _phrase(words: str, tokenizer: CaptionTokenizer) -> Phrase:
    """``dog|puppy`` is said by either."""
    forms: set[tuple[int, ...]] = set()
    initial: set[tuple[int, ...]] = set()
    before = tokenizer.encode("a")
    for choice in words.split("|"):
        inside = tuple(tokenizer.encode(f"a {choice}")[len(before) :])
        forms.add(inside)
        initial.add(tuple(tokenizer.encode(choice)))
    return Phrase(tuple(sorted(forms)), tuple(sorted(initial - forms)), _boundary(tokenizer))


def _boundary(tokenizer: CaptionTokenizer) -> tuple[bool, ...]:
    """Which tokens cannot go on with a word: those that begin with a space or a mark, and the end."""
    marks = b' ,.;:!?"()'
    return tuple(not piece or piece[:1] in marks for piece in tokenizer.pieces)
