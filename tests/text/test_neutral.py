"""The word lists of neutral captions."""

from __future__ import annotations

import pytest

from captioner.text.neutral import every_language, lexicons


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_word_is_replaced_by_one_that_presumes(language: str) -> None:
    lexicon = lexicons()[language]
    assert len(lexicon.words) > 40
    presuming = set(lexicon.presuming)
    assert not presuming & set(lexicon.words.values())
    assert not presuming & {part for plain in lexicon.words.values() for part in plain.split()}
    assert not presuming & set(lexicon.people)


def test_all_languages_together_hold_each() -> None:
    together = set(every_language().presuming)
    for lexicon in lexicons().values():
        assert together >= set(lexicon.presuming)
    assert {"man", "women", "her", "young", "old person", "男", "她"} <= together
    assert not {"person", "child", "baby", "dress", "cowboy", "old", "人", "孩子"} & together


def test_singular_words_stay_singular() -> None:
    words = lexicons()["en"].words
    assert (words["man"], words["men"], words["boy"], words["girls"]) == ("person", "people", "child", "children")
    assert (words["he"], words["his"], words["him"]) == ("they", "their", "them")
