"""The lists of function words: sizes, and the words in which they differ."""

from __future__ import annotations

from captioner.metrics.function_words import BASIC_FUNCTION_WORDS, FUNCTION_WORDS, NEVER_TAGS
from captioner.metrics.words import words


def test_published_figures_keep_their_lists() -> None:
    """Figures in docs/ and tags of trained models depend on these lists."""
    assert (len(BASIC_FUNCTION_WORDS), len(FUNCTION_WORDS), len(NEVER_TAGS)) == (56, 126, 93)
    assert BASIC_FUNCTION_WORDS < FUNCTION_WORDS
    assert sorted(BASIC_FUNCTION_WORDS - NEVER_TAGS) == ["next", "without"]
    assert sorted(NEVER_TAGS - FUNCTION_WORDS) == ["doing", "every", "herself", "himself", "itself", "themselves"]


def test_each_is_one_word_of_a_caption() -> None:
    assert all(words(word) == [word] for word in FUNCTION_WORDS | NEVER_TAGS if word.isalpha())
    assert set(words("it isn't the dog's")) - FUNCTION_WORDS == {"dog"}
