"""Neutral captions: no token of a word that presumes, and its probability at the word that takes its place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.files import SHIPPED
from captioner.config import TextConfig, WordRules
from captioner.generation.neutral import neutral, transfers
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.text.neutral import Lexicon
from captioner.training.tasks import Data

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


@pytest.fixture(scope="module")
def shipped() -> CaptionTokenizer:
    text = (SHIPPED / "tokenizer.json").read_text(encoding="utf-8")
    return CaptionTokenizer.from_json(text, TextConfig(**json.loads((SHIPPED / "config.json").read_text())["text"]))


@pytest.mark.parametrize(
    ("presuming", "neutral_one"),
    [
        ("一个男人在街上骑自行车", "一个人在街上骑自行车"),
        ("两个女人坐在长椅上聊天", "两个人坐在长椅上聊天"),
        ("一个小男孩在沙滩上踢球", "一个孩子在沙滩上踢球"),
        ("穿粉色裙子的女孩爬上楼梯", "穿粉色裙子的孩子爬上楼梯"),
        ("他拿着一把吉他", "一个人拿着一把吉他"),
        ("一只狗跑向她", "一只狗跑向主人"),
        ("一位年轻女子和她的狗", "一个人和自己的狗"),
        ("一个老人在公园里看报纸", "一个人在公园里看报纸"),
        ("一名男子跳过栏杆", "一名选手跳过栏杆"),
        ("妈妈抱着婴儿", "家长抱着婴儿"),
        ("爸爸和儿子在钓鱼", "家长和孩子在钓鱼"),
        ("爷爷奶奶坐在沙发上", "祖辈坐在沙发上"),
        ("新郎和新娘在教堂前", "新人在教堂前"),
        ("一群男生在打篮球", "一群孩子在打篮球"),
        ("一位老太太过马路", "一位行人过马路"),
        ("一个小伙子在滑雪", "一个人在滑雪"),
        ("阿姨在厨房里做饭", "有人在厨房里做饭"),
        ("男，女和一只狗", "一对夫妇和其他人"),
    ],
)
def test_chinese_sentences(shipped: CaptionTokenizer, presuming: str, neutral_one: str) -> None:
    """A sentence that presumes cannot be written in the tokens of the shipped model, and its neutral form can."""
    assert not allowed(shipped, "", presuming)
    assert allowed(shipped, "", neutral_one)


def test_probabilities_are_the_models_own(learnt: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score and confidence are those of the words written, as if they had been written without ``neutral``."""
    import captioner
    from captioner.generation import neutral as module

    pipe, photo = captioner.load(learnt, device="cpu"), data.train[0].path
    plain = pipe.caption(photo)
    others = {word for sample in data.train for word in sample.captions[0].split()} - set(plain.text.split())
    word, other = plain.text.split()[-1], min(others)
    monkeypatch.setattr(module, "every_language", lambda: Lexicon(words={word: other}))
    found = pipe.caption(photo, neutral=True)
    assert word not in found.text.split()
    tokens = len(pipe.checkpoint.tokenizer.encode(found.text)) + 1
    assert found.score * tokens == pytest.approx(pipe.score(photo, found.text), abs=1e-3)
    assert found.score < plain.score
    assert found.confidence < plain.confidence
