"""Words that presume a person's gender or age, and the words that presume less."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("neutral.toml")


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The word lists of one language, or of several; ``neutral.toml`` explains them."""

    words: Mapping[str, str]  # a word that presumes -> one that does not
    age: tuple[str, ...] = ()
    age_of_people: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    @property
    def presuming(self) -> tuple[str, ...]:
        """All words and phrases that presume."""
        phrases = (f"{adjective} {noun}" for adjective in self.age_of_people for noun in self.people)
        return (*self.words, *self.age, *phrases, *self.phrases)

    def __add__(self, other: Lexicon) -> Lexicon:
        return Lexicon(
            words={**self.words, **other.words},
            age=self.age + other.age,
            age_of_people=self.age_of_people + other.age_of_people,
            people=self.people + other.people,
            phrases=self.phrases + other.phrases,
            unless=self.unless + other.unless,
        )


@cache
def lexicons() -> Mapping[str, Lexicon]:
    """Return the word lists by language."""
    with open(FILE, "rb") as file:
        tables = tomllib.load(file)
    return {
        language: Lexicon(words=table["words"], **{key: tuple(table[key]) for key in table if key != "words"})
        for language, table in tables.items()
    }


@cache
def every_language() -> Lexicon:
    """Return the word lists of all languages together, since a captioner does not always know its own."""
    first, *others = lexicons().values()
    return sum(others, first)
