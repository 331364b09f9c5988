import math

import pytest

from captioner.errors import DataError
from captioner.metrics.cider import CiderD, DocumentFrequencies, cider_d
from captioner.metrics.words import words


def test_perfect_distinct_captions_score_the_maximum() -> None:
    captions = [list("abcde"), list("fghij")]
    score = cider_d(captions, [[caption] for caption in captions])
    assert score.per_image == pytest.approx((1000, 1000))
    assert score.mean == pytest.approx(1000)


def test_one_shared_word_by_hand() -> None:
    # Two images. For n = 1, "a" is in both (weight 0), "x" and "y" in one (weight log 2): the candidate "x z" meets the
    # reference "x a" in x: its cosine is log2 log2 / (sqrt(2) log2 * log2). No longer n-gram matches; lengths agree.
    score = cider_d([["x", "z"], ["q"]], [[["x", "a"]], [["y", "a"]]])
    assert score.per_image == pytest.approx((1000 / 4 / math.sqrt(2), 0))


def test_length_penalty_and_clipping() -> None:
    # "x" twice against once: clipped to the reference's weight; one word more costs exp(-1 / (2 * 36)).
    score = cider_d([["x", "x"], ["q"]], [[["x"]], [["y"]]])
    assert score.per_image[0] == pytest.approx(1000 / 4 * 0.5 * math.exp(-1 / 72))


def test_a_candidate_is_compared_with_the_mean_of_its_references() -> None:
    one = cider_d([list("abcd"), ["q"]], [[list("abcd")], [["y"]]]).per_image[0]
    half = cider_d([list("abcd"), ["q"]], [[list("abcd"), list("wxyz")], [["y"]]]).per_image[0]
    assert half == pytest.approx(one / 2)


def test_frequencies_of_another_corpus_weigh_the_words() -> None:
    train = DocumentFrequencies.of([[["a", "dog"]], [["a", "cat"]], [["a"]], [["a", "dog"], ["dog"]]])
    assert train.images == 4
    assert train.idf(("a",)) == 0
    assert train.idf(("dog",)) == pytest.approx(math.log(4 / 2))
    assert train.idf(("unseen",)) == pytest.approx(math.log(4))
    scorer = CiderD(train)
    assert scorer.score([["a"]], [[["a"]]]).mean == 0  # a word in every image has idf 0
    assert scorer.score([["dog"]], [[["dog"]]]).mean == pytest.approx(250)


def test_prepared_references_score_the_same() -> None:
    references = [[list("abcd"), list("abxd")], [list("efgh")]]
    scorer = CiderD(DocumentFrequencies.of(references))
    prepared = scorer.vectors(references[0])
    assert scorer.score_vectors(list("abcx"), prepared) == scorer.score([list("abcx"), ["q"]], references).per_image[0]


def test_one_image_has_no_rare_words_and_empty_captions_score_zero() -> None:
    assert cider_d([["a", "b"]], [[["a", "b"]]]).mean == 0
    assert cider_d([[], ["a"]], [[["a"]], [[]]]).per_image == (0, 0)


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="nothing to score"):
        cider_d([], [])
    with pytest.raises(DataError, match="2 candidates"):
        cider_d([["a"], ["b"]], [[["a"]]])
    with pytest.raises(DataError, match="image 1 has no"):
        cider_d([["a"], ["b"]], [[["a"]], []])
    with pytest.raises(DataError, match="no images"):
        DocumentFrequencies.of([])
    with pytest.raises(DataError, match="image 0 has no"):
        CiderD(DocumentFrequencies.of([[["a"]]])).vectors([])


@pytest.mark.parametrize("key", ["raw_text", "flickr8k dev, first caption against the others"])
def test_scores_equal_the_stored_scores_of_the_tools(key, tools, golden, request) -> None:
    groups = tools.raw_groups() if key == "raw_text" else request.getfixturevalue("human_groups")
    tokenized = [[words(text) for text in group] for group in groups]
    score = cider_d([group[0] for group in tokenized], [group[1:] for group in tokenized])
    assert score.mean == pytest.approx(golden[key]["scores"]["cider"], abs=0.01)
