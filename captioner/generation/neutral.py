"""Captions that do not presume the gender or age of people.

The words that presume are forbidden during the search, so that captions stay fluent and their probabilities are those
of the written words. This alone would make people improbable: a model that wants "man" or "woman" gives "person"
little, and would rather write about the bicycle. So the probability of each such word first goes to the word that says
the same without presuming, p'(person) = p(person) + p(man) + p(woman) + ..., and the search ranks captions by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from captioner.config import WordRules, contains_phrase, one_word
from captioner.generation.processors import Processor, phrase_bias
from captioner.generation.spelling import folded
from captioner.text import CaptionTokenizer
from captioner.text.neutral import every_language


def neutral(rules: WordRules, tokenizer: CaptionTokenizer) -> tuple[Processor, ...]:
    """Return the processors of ``rules.neutral``; words that the user requires or favours stay possible."""
    lexicon = every_language()
    own = [choice for words in rules.require for choice in words.split("|")]
    own += [phrase for phrase, value in rules.bias.items() if value > 0]
    phrases = [phrase for phrase in lexicon.presuming if not any(contains_phrase(text, phrase) for text in own)]
    words = {word: lexicon.words[word] for word in phrases if word in lexicon.words}
    forbidding = phrase_bias(dict.fromkeys(phrases, float("-inf")), tokenizer, unless=lexicon.unless)
    transfer = _transfer(tuple(words.items()), tokenizer)
    return (forbidding,) if transfer is None else (transfer, forbidding)


@lru_cache(maxsize=16)
def _transfer(words: tuple[tuple[str, str], ...], tokenizer: CaptionTokenizer) -> Processor | None:
    """Return a processor that moves the probability of each word's token to that of the word beside it."""
    sources = transfers(dict(words), tokenizer)
    if not sources:
        return None
    width = 1 + max(map(len, sources.values()))
    receivers = torch.tensor(list(sources), device="cpu")  # (R,)
    # The receiver itself comes first, and fills up rows of fewer sources, where it counts as nothing.
    table = torch.tensor(
        [[to, *found, *[to] * (width - 1 - len(found))] for to, found in sources.items()], device="cpu"
    )  # (R, W)
    empty = torch.tensor(
        [[place > len(found) for place in range(width)] for found in sources.values()], device="cpu"
    )  # (R, W)

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        parts = log_probs[:, table.to(log_probs.device)]  # (N, R, W)
        sums = parts.masked_fill(empty.to(log_probs.device), -torch.inf).logsumexp(-1)  # (N, R)
        return log_probs.index_copy(1, receivers.to(log_probs.device), sums)

    return process


def transfers(words: Mapping[str, str], tokenizer: CaptionTokenizer) -> dict[int, list[int]]:
    """Return the tokens that are one of ``words`` as a whole, by the first token of the word that takes their place.

    Only tokens that certainly begin a word count: with a space, or in a script without spaces.
    """
    raw = {tokenizer.raw(word).strip(): tokenizer.raw(plain).strip() for word, plain in words.items()}
    tokens: dict[str, list[int]] = {}
    for token, piece in enumerate(map(folded, tokenizer.pieces)):
        if piece:
            tokens.setdefault(piece, []).append(token)
    sources: dict[int, list[int]] = {}
    for word, plain in raw.items():
        for lead in (" ", "") if word and not one_word("a", word[0]) else (" ",):
            ends = [
                place for place in range(1, len(plain) + 1) if not one_word(plain[place - 1], plain[place : place + 1])
            ]
            receiver = next(
                (tokens[lead + plain[:end]][0] for end in reversed(ends) if lead + plain[:end] in tokens), None
            )
            if receiver is not None:
                sources.setdefault(receiver, []).extend(tokens.get(lead + word, []))
    return {receiver: found for receiver, found in sources.items() if found}
