"""Neutral captions: no token of a word that presumes, and its probability at the word that takes its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from captioner.config import WordRules
from captioner.generation.neutral import neutral, transfers
from captioner.text import CaptionTokenizer, train_tokenizer

from ..text.wordpiece import wordpiece
from .test_processors import gpt2_like

CAPTIONS = [
    "a man and a woman and his dog",
    "two men and her child on a mandarin",
    "an old person in an old car",
    "people and a person with their guitar",
    "一个男人弹吉他 他和她",
] * 9


@pytest.fixture(scope="module")
def trained() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 420)


def allowed(tokenizer: CaptionTokenizer, text: str, then: str, **rules: object) -> bool:
    """Return whether the caption ``text`` may continue with ``then``, in every token of it."""
    processors = neutral(WordRules(neutral=True, **rules), tokenizer)  # type: ignore[arg-type]
    before, whole = tokenizer.encode(text), tokenizer.encode(text + then)
    assert whole[: len(before)] == before
    for place in range(len(before), len(whole)):
        row = torch.zeros(1, tokenizer.vocab_size)
        for process in processors:
            row = process(row, torch.tensor([whole[:place]], dtype=torch.long))
        if row[0, whole[place]] == -math.inf:
            return False
    return True


@pytest.mark.parametrize("word", ["man", "woman", "man's", "men", "his", "her", "young", "policeman", "grandma"])
def test_words_that_presume_are_forbidden(trained: CaptionTokenizer, word: str) -> None:
    assert not allowed(trained, "a", f" {word}")
    assert not allowed(trained, "a", f" {word.capitalize()}")


@pytest.mark.parametrize("words", ["person", "child", "their dog", "human", "old car", "dress", "cowboy", "snowman"])
def test_other_words_are_not(trained: CaptionTokenizer, words: str) -> None:
    assert allowed(trained, "a", f" {words}")


def test_old_is_for_things(trained: CaptionTokenizer) -> None:
    assert allowed(trained, "an old", " car")
    assert not allowed(trained, "an old", " person")


def test_chinese_words_that_contain_a_pronoun_are_not_forbidden(trained: CaptionTokenizer) -> None:
    for caption in ("一个男人", "弹她", "和他", "他弹吉他"):
        assert not allowed(trained, "", caption)
    for caption in ("弹吉他", "和其他人"):
        assert allowed(trained, "", caption)


def test_words_of_the_user_stay(trained: CaptionTokenizer) -> None:
    assert allowed(trained, "a", " man", require=("a man|a boy",))
    assert not allowed(trained, "a", " woman", require=("a man|a boy",))
    assert allowed(trained, "a", " man", bias={"man": 2.0})
    assert not allowed(trained, "a", " man", bias={"man": -2.0})


def test_the_probability_of_a_word_goes_to_the_word_in_its_place(trained: CaptionTokenizer) -> None:
    man, woman, person, dog = (trained.encode(f"a {word}")[-1] for word in ("man", "woman", "person", "dog"))
    assert {man, woman} <= set(transfers({"man": "person", "woman": "person"}, trained)[person])
    row = torch.full((1, trained.vocab_size), 0.001)
    row[0, [man, woman, person, dog]] = torch.tensor([0.3, 0.2, 0.1, 0.15])
    moved = row.log()
    for process in neutral(WordRules(neutral=True), trained):
        moved = process(moved, torch.tensor([trained.encode("a")]))
    torch.testing.assert_close(moved[0, person].exp(), torch.tensor(0.6), atol=0.01, rtol=0)
    torch.testing.assert_close(moved[0, dog].exp(), torch.tensor(0.15))
    assert moved[0, [man, woman]].tolist() == [-math.inf, -math.inf]


def test_wordpiece_and_byte_level_tokenizers_spell_them_too(tmp_path: Path) -> None:
    bert = wordpiece(tmp_path)
    assert not allowed(bert, "a", " man")
    assert not allowed(bert, "the", " man's hat")
    assert allowed(bert, "a", " dog's hat")
    byte_level = gpt2_like(300)  # without the words as tokens
    assert not allowed(byte_level, "a", " man")
    assert not allowed(byte_level, "", "Man")
    assert allowed(byte_level, "a", " person")
    assert transfers({"man": "person"}, byte_level) == {}
