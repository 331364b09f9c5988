"""Rules on words for one caption: one list of log-probabilities in, another one out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

Rule = Callable[[list[float], tuple[int, ...]], list[float]]


def minimum_length(tokens: int, eos: int) -> Rule:
    def rule(row: list[float], said: tuple[int, ...]) -> list[float]:
        return [-math.inf if token == eos and len(said) + 1 < tokens else value for token, value in enumerate(row)]

    return rule


def repetition_penalty(factor: float) -> Rule:
    def rule(row: list[float], said: tuple[int, ...]) -> list[float]:
        return [value * factor if token in said else value for token, value in enumerate(row)]

    return rule


def no_repeat_ngram(size: int) -> Rule:
    def rule(row: list[float], said: tuple[int, ...]) -> list[float]:
        grams = [said[i : i + size] for i in range(len(said) - size + 1)]
        tail = said[len(said) - size + 1 :]
        return [-math.inf if (*tail, token) in grams else value for token, value in enumerate(row)]

    return rule


def phrase_bias(phrases: Mapping[str, float], pieces: Sequence[bytes]) -> Rule:
    """Add the bias of each phrase that the new token completes in the text."""

    plain = {_plain(phrase.encode()).strip(): bias for phrase, bias in phrases.items()}

    def rule(row: list[float], said: tuple[int, ...]) -> list[float]:
        text = b"".join(pieces[token] for token in said)
        before = _plain(text)
        found = []
        for token, value in enumerate(row):
            after = _plain(text + pieces[token])
            found.append(value + sum(bias for phrase, bias in plain.items() if _says_now(before, after, phrase)))
        return found

    return rule


def _plain(text: bytes) -> str:
    return re.sub(r"\s+", " ", text.decode(errors="surrogateescape").casefold())


def _says_now(before: str, after: str, phrase: str) -> bool:
    """Return whether the phrase ends here: it begins at a word, and ends with a token or a word."""
    opening = r"(?<![^\W_])" if phrase[0].isalnum() else ""
    for match in re.finditer(f"(?={opening}{re.escape(phrase)})", after) if phrase in after else ():
        end = match.start() + len(phrase)
        ends = end == len(after) or not (after[end - 1].isalnum() and after[end].isalnum())
        if ends and before[:end] != after[:end]:
            return True
    return False
