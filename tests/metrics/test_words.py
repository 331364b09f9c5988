"""Word splitting by hand: one line per rule of the Penn Treebank that captions meet."""

import time

import pytest

from captioner.metrics.treebank import tokens
from captioner.metrics.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog , running .", "a dog running"),
        ("", ""),
        (" . ", ""),
        ("don't can't it's I'd cannot gonna", "do n't ca n't it 's i 'd can not gon na"),
        ("John's dogs' 'tis o'clock y'all rock'n'roll", "john 's dogs 't is o'clock y' all rock 'n' roll"),
        ("it’s don’t “so” ‘so’", "it 's do n't so so"),
        ("'sand' 'no' graffiti'ed", "sand no graffiti'ed"),
        ("tri-colored e-mail well- -known a--b a—b", "tri-colored e-mail well known a b a b"),
        ("1,000 3.5 50% $5 10:30 #1 1st 1990s '90s", "1,000 3.5 50 % $ 5 10:30 # 1 1st 1990s '90s"),
        ("1/2 1 1/2 ½ and/or a/b/c/d", "1/2 1 1/2 1/2 and/or a/b/c / d"),
        ("(a) [b] {c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
        ("U.S. p.m. Mr. Smith etc. dog. dog.,", "u.s. p.m. mr. smith etc. dog dog."),
        ("no. 5, no. La. la.", "no. 5 no la. la"),
        ("plan B. The dog, B. Smith", "plan b the dog b. smith"),
        ("wait... what?? the end.The dog", "wait what ?? the end.the dog"),
        ("AT&T m&m salt & pepper Q&amp;A", "at&t m & m salt & pepper q&a"),
        ("http://a.com/b?c=1. bob@a.org, @bob #dogs dog.jpg", "http://a.com/b?c=1 bob@a.org, @bob #dogs dog.jpg"),
        ('<b>dog</b> <a href="x"> 3 < 5', '<b> dog </b> <a href="x"> 3 < 5'),
        ("Ça va, naïve café; Über €5 £6 5¢", "ça va naïve café über $ 5 # 6 5 cents"),
        ("一只猫。 кошка 🐶dog🐶 e\u0301t\u0301 ❤", "一只猫 。 кошка dog e\u0301t\u0301 ❤"),
        ("no\u00a0break soft\u00adhyphen zero\u200bwidth", "no break softhyphen zero width"),
    ],
)
def test_words_of_a_caption(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_words_that_reach_over_a_blank_are_not_cut_by_the_cache() -> None:
    for text in (
        "call (650) 555-0123",
        "on 1 1/2 acres",
        "see <a b>",
        "wait . . .5",
        "plan B. The dog",
        "no. 5",
        "B. A",
    ):
        assert words(text) == list(tokens(text))


def test_words_of_a_line_that_mixes_everything_end() -> None:
    started = time.perf_counter()
    words("<a " * 300 + "a." * 2000 + "1-" * 2000 + "'" * 500 + "(" * 500 + "a@" * 500)
    assert time.perf_counter() - started < 20


def test_words_equal_the_stored_words_of_the_tool(tools, golden) -> None:
    stored = golden["raw_text"]["words"]
    groups = tools.raw_groups()
    for group, expected in zip(groups, stored, strict=True):
        assert [" ".join(words(text)) for text in group] == expected


def test_words_of_the_dev_captions_equal_the_stored_hash(tools, golden, human_groups) -> None:
    stored = golden["flickr8k dev, first caption against the others"]
    assert tools.fingerprint(human_groups) == stored["captions_sha256"]
    assert tools.fingerprint([[words(text) for text in group] for group in human_groups]) == stored["words_sha256"]
