"""Word splitting in languages without spaces."""

from __future__ import annotations

import pytest

from captioner.errors import MissingExtraError
from captioner.metrics.bleu import bleu
from captioner.metrics.words import characters, splitter, unspaced, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("一只黑狗在沙滩上奔跑。", list("一只黑狗在沙滩上奔跑")),
        (
            "一个穿着Ｔ恤的人，拿着 iPhone 12！",
            ["一", "个", "穿", "着", "t", "恤", "的", "人", "拿", "着", "iphone", "12"],
        ),
        ("犬がビーチで走る。", list("犬がビーチで走る")),
        ("แมวนั่งบนเสื่อ", ["แ", "ม", "ว", "นั่", "ง", "บ", "น", "เ", "สื่", "อ"]),  # marks stay on their letters
        ("A man's dog, running.", ["a", "man", "'s", "dog", "running"]),
        ("𠀀😀", ["𠀀"]),
        ("。，、！", []),
        ("", []),
    ],
)
def test_characters(text: str, found: list[str]) -> None:
    assert characters(text) == found


def test_a_clause_is_one_word_to_the_treebank_and_not_to_characters() -> None:
    said, people = "一只黑狗在沙滩上奔跑", "一只黑狗在海滩上奔跑"
    assert len(words(said)) == 1
    assert bleu([words(said)], [[words(people)]]).bleu1 == 0
    assert bleu([characters(said)], [[characters(people)]]).bleu1 == pytest.approx(90)


def test_which_captions_want_it() -> None:
    assert unspaced(["一只黑狗", *["a dog"] * 9])
    assert not unspaced(["一只黑狗", *["a dog"] * 19])
    assert not unspaced(["고양이가 앉아 있다", "кошка"])  # Korean and Russian part their words
    assert not unspaced([])


def test_jieba_where_it_is_installed() -> None:
    pytest.importorskip("jieba")
    assert splitter("jieba")("一只黑狗在沙滩上奔跑。") == ["一只", "黑狗", "在", "沙滩", "上", "奔跑"]
    assert splitter("jieba")("两个人，Two dogs!") == ["两个", "人", "two", "dogs"]


def test_jieba_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    with pytest.raises(MissingExtraError, match=r"--words jieba needs jieba: pip install 'captioner\[chinese\]'"):
        splitter("jieba")
