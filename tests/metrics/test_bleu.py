import math
import warnings

import pytest

from captioner.errors import DataError
from captioner.metrics.bleu import bleu, smoothed_bleu
from captioner.metrics.words import words


def test_perfect_candidates_score_100() -> None:
    captions = [list("abcde"), list("fghij")]
    score = bleu(captions, [[caption] for caption in captions])
    assert (score.bleu1, score.bleu4) == pytest.approx((100, 100))
    assert score.precisions == (100, 100, 100, 100)
    assert score.length_ratio == score.brevity_penalty == 1


def test_clipping_counts_a_repeated_word_as_often_as_one_reference_has_it() -> None:
    # Papineni et al. 2002, section 2.1: "the the the ..." has a precision of 2/7, not 7/7.
    score = bleu([["the"] * 7], [[words("the cat is on the mat"), words("there is a cat on the mat")]])
    assert score.precisions[0] == pytest.approx(100 * 2 / 7)
    assert score.bleu2 == 0


def test_brevity_penalty_uses_the_closest_reference_and_the_shorter_of_two() -> None:
    references = [["a"] * 4, ["a"] * 6, ["a"] * 20]
    assert bleu([["a"] * 5], [references]).reference_words == 4
    short = bleu([["a"] * 3], [references])
    assert short.brevity_penalty == pytest.approx(math.exp(1 - 4 / 3))
    assert short.bleu1 == pytest.approx(100 * math.exp(1 - 4 / 3))


def test_the_corpus_is_counted_as_a_whole() -> None:
    # 4 of 5 words and 2 of 3 pairs match.
    score = bleu([list("abc"), list("xy")], [[list("abc")], [list("xz")]])
    assert score.bleu2 == pytest.approx(100 * math.sqrt(4 / 5 * 2 / 3))


def test_a_candidate_too_short_for_an_n_gram_adds_none() -> None:
    whole = bleu([list("abcdx")], [[list("abcde")]])
    with_short = bleu([list("abcdx"), list("ab")], [[list("abcde")], [list("ab")]])
    assert with_short.precisions[2:] == whole.precisions[2:] == (pytest.approx(100 * 2 / 3), 50)


def test_a_single_caption_is_smoothed() -> None:
    """By hand: 3 of 4 words, 1 of 3 pairs, no longer n-gram; smoothing adds 1 to the last three fractions."""
    found = smoothed_bleu(["a", "dog", "ran", "there"], [["a", "dog", "is", "there", "now"], ["cat"]])
    precisions = [3 / 4, (1 + 1) / (3 + 1), 1 / (2 + 1), 1 / (1 + 1)]
    assert found == pytest.approx(100 * math.prod(precisions) ** 0.25 * math.exp(1 - 5 / 4))
    assert smoothed_bleu(list("abcd"), [list("abcd")]) == pytest.approx(100)
    assert smoothed_bleu([], [["a", "dog"]]) == 0


def test_no_match_is_zero_and_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bleu([list("abcd")], [[list("wxyz")]]).bleu1 == 0
        assert bleu([[]], [[list("ab")]]).bleu1 == 0
        score = bleu([list("abcd")], [[list("axcx")]])
    assert (score.bleu1, score.bleu2) == (50, 0)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "nothing to score"),
        ([["a"]], [], "1 candidates"),
        ([["a"]], [[]], "image 0 has no"),
        (["a dog"], [[["a"]]], "candidate 0 is a string"),
        ([["a"]], [["a dog"]], "reference of image 0 is a string"),
        ([["a"]], ["a dog"], "image 0 has no"),
    ],
)
def test_bad_input_is_named(candidates: list, references: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bleu(candidates, references)


@pytest.mark.parametrize("key", ["raw_text", "flickr8k dev, first caption against the others"])
def test_scores_equal_the_stored_scores_of_the_tools(key, tools, golden, request) -> None:
    groups = tools.raw_groups() if key == "raw_text" else request.getfixturevalue("human_groups")
    tokenized = [[words(text) for text in group] for group in groups]
    score = bleu([group[0] for group in tokenized], [group[1:] for group in tokenized])
    stored = golden[key]["scores"]
    for name in ("bleu1", "bleu2", "bleu3", "bleu4"):
        assert getattr(score, name) == pytest.approx(stored[name], abs=0.01)
