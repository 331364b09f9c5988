"""Compilation of word rules for the searches: processors, a prefix in tokens, required phrases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice

from torch import Tensor

from captioner.config import GenerationConfig, in_word
from captioner.errors import UsageError
from captioner.generation.constrained import Phrase
from captioner.generation.label_bias import LabelBias
from captioner.generation.neutral import neutral
from captioner.generation.processors import (
    Processor,
    minimum_length,
    no_repeat_ngram,
    phrase_bias,
    repetition_penalty,
)
from captioner.generation.spelling import folded, word_ends
from captioner.text import CaptionTokenizer

_MOST_FORMS = 256  # of a required word without spaces around it


@dataclass(frozen=True)
class Rules:
    """The ``WordRules`` of a config, compiled to the tokens of one checkpoint."""

    processors: tuple[Processor, ...] = ()  # for penalties, biases, forbidden phrases and the minimum length
    prefix: tuple[int, ...] = ()  # first tokens of every caption
    require: tuple[Phrase, ...] = ()  # phrases that every caption must contain
    labels: LabelBias | None = None  # toward the labels of the images that are searched

    def of_images(self, images: Tensor) -> Rules:
        """Return the rules of some of the images (B',)."""
        return self if self.labels is None else replace(self, labels=self.labels.select(images))


NO_RULES = Rules()


def compile_rules(config: GenerationConfig, tokenizer: CaptionTokenizer) -> Rules:
    """Compile the rules of ``config``. Raises ``UsageError`` if no caption can satisfy them."""
    rules = config.rules
    # Neutral words first: what follows holds for the words that take the place of others too.
    processors = [*neutral(rules, tokenizer)] if rules.neutral else []
    if rules.repetition_penalty != 1:
        processors.append(repetition_penalty(rules.repetition_penalty))
    if rules.no_repeat_ngram:
        processors.append(no_repeat_ngram(rules.no_repeat_ngram))
    phrases = {**rules.bias, **dict.fromkeys(rules.forbid, float("-inf"))}
    if phrases:
        processors.append(phrase_bias(phrases, tokenizer))
    if config.min_tokens > 1:
        processors.append(minimum_length(config.min_tokens, tokenizer.config.eos_id))
    prefix = tuple(_encoded(rules.prefix, rules.prefix, tokenizer))
    require = tuple(required(phrase, tokenizer) for phrase in rules.require)
    needed = max([len(prefix) + max(1, len(_needed(require) - set(prefix))), *(p.length for p in require)])
    if needed > config.max_tokens:
        raise UsageError(
            f"the prefix and the required words need at least {needed} tokens, more than max_tokens "
            f"{config.max_tokens}; raise it"
        )
    return Rules(tuple(processors), prefix, require)


def _needed(phrases: Sequence[Phrase]) -> set[int]:
    """Return the tokens that every spelling of a phrase contains."""
    return {token for p in phrases for token in set(p.forms[0]).intersection(*p.forms, *p.initial)}


def _encoded(words: str, named: str, tokenizer: CaptionTokenizer) -> list[int]:
    """Encode ``words``; errors quote ``named``, the text from the user."""
    tokens, config = tokenizer.encode(words), tokenizer.config
    if {config.bos_id, config.eos_id, config.pad_id} & set(tokens):
        raise UsageError(f"{named!r} contains a special token of the checkpoint, which no caption contains; remove it")
    if tokenizer.is_raw and not all(tokenizer.pieces[token] for token in tokens):
        raise UsageError(f"{named!r} has a word or character that the checkpoint cannot write; use other words")
    return tokens


def required(words: str, tokenizer: CaptionTokenizer) -> Phrase:
    """Compile a required phrase; ``dog|puppy`` accepts either word. Raises ``UsageError`` for one of no token."""
    forms: set[tuple[int, ...]] = set()
    initial: set[tuple[int, ...]] = set()
    before = tokenizer.encode("a")
    choices = [choice.strip() for choice in words.split("|")]
    for choice in choices:
        inside, beginning = _encoded(f"a {choice}", choice, tokenizer)[len(before) :], tokenizer.encode(choice)
        if not inside or not beginning:
            raise UsageError(f"{choice!r} never occurs in captions, so it cannot be required; name a word")
        forms.add(tuple(inside))
        initial.add(tuple(beginning))
        if _stands_alone(choice[0]):
            forms.update(unspaced_forms(choice, tokenizer), [tuple(beginning)])
    boundary = word_ends(tokenizer)
    if all(_stands_alone(choice[-1]) for choice in choices):  # nothing continues such a word
        boundary = (True,) * len(boundary)
    return Phrase(tuple(sorted(forms)), tuple(sorted(initial - forms)), boundary, tokenizer.joiners)


def _stands_alone(char: str) -> bool:
    """Return whether a character is a word of its own, as in scripts without spaces."""
    return char.isalnum() and not in_word(char)


@lru_cache(maxsize=64)
def unspaced_forms(word: str, tokenizer: CaptionTokenizer) -> frozenset[tuple[int, ...]]:
    """Return the tokens that contain a word of a script without spaces: its neighbours may share its outer tokens."""
    texts = [(token, folded(piece)) for token, piece in enumerate(tokenizer.pieces)]
    word = word.casefold()

    def after(begun: int) -> Iterator[tuple[int, ...]]:
        """Yield the tokens that write the word from its character ``begun`` on."""
        yield from ((token,) for token, text in texts if text.startswith(word[begun:]))
        for end in range(begun + 1, len(word)):
            for token, text in texts:
                if text == word[begun:end]:
                    yield from ((token, *rest) for rest in after(end))

    within: Iterator[tuple[int, ...]] = ((token,) for token, text in texts if word in text)
    across = (
        (token, *rest)
        for end in range(1, len(word))
        for token, text in texts
        if text.endswith(word[:end]) and word not in text
        for rest in after(end)
    )
    return frozenset(islice(chain(within, across), _MOST_FORMS))
