"""Words from tokens, confidences from probabilities, and streams in whole words."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from captioner.config import Calibration
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.words import (
    calibrated,
    confidence,
    stream_text,
    whole_words,
    word_log_probs,
    word_spans,
    word_texts,
)
from captioner.text import CaptionTokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(["a dog runs", "a dog sits, and a cat", "größe 犬 café"], 270)


@pytest.mark.parametrize("text", ["a dog runs", "dog", "a dog, and a cat", "größe 犬 café!", ""])
def test_words_are_those_of_the_text(text: str, tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode(text)
    hypothesis = Hypothesis(tuple(tokens), tuple([-0.5] * (len(tokens) + 1)), 0.0)
    found = word_log_probs(hypothesis, tokenizer)
    assert [word for word, _ in found] == text.split()
    spans = word_spans(tokens, tokenizer)
    assert [value for _, value in found] == [-0.5 * (end - start) for start, end in spans]
    assert [place for start, end in spans for place in range(start, end)] == list(range(len(tokens)))


def test_a_space_of_its_own_belongs_to_the_next_word() -> None:
    """A tokenizer of Chinese captions may write the space before the first character as a token."""
    tokenizer = train_tokenizer(["a dog", "一头牛"], 300, words="characters")
    tokens = [*tokenizer.encode("a"), tokenizer.pieces.index(b" "), *tokenizer.encode("一头")]
    tokens = [token for token in tokens if tokenizer.pieces[token]]
    hypothesis = Hypothesis(tuple(tokens), tuple([-0.5] * (len(tokens) + 1)), 0.0)
    assert [word for word, _ in word_log_probs(hypothesis, tokenizer)] == ["a", "一", "头"]


def test_chinese_punctuation_belongs_to_the_word_before_it() -> None:
    tokenizer = train_tokenizer(["一头牛，在草地上。"], 300, words="characters")  # some characters are several tokens
    tokens = tokenizer.encode("一头牛，在草地上")
    assert word_texts(tokens, tokenizer) == ["一", "头", "牛，", "在", "草", "地", "上"]


@pytest.mark.parametrize("text", ["a dog runs", "dog", "a dog, and a cat", "größe 犬 café!", ""])
def test_pieces_of_a_stream_are_whole_words_and_join_to_the_text(text: str, tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode(text)
    for ending in ([], [tokenizer.config.eos_id], [tokenizer.config.eos_id, *tokens]):
        pieces = list(stream_text([*tokens, *ending], tokenizer))
        assert "".join(pieces) == text == tokenizer.decode(tokens)
        assert [piece.strip() for piece in pieces] == text.split()


def test_whole_words_within_a_number_of_tokens(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode("a dog, café")
    ends = [end for _, end in word_spans(tokens, tokenizer)]
    assert ends[-1] > ends[-2] + 1
    for most in range(len(tokens) + 2):
        assert whole_words(tokens, most, tokenizer) == max([0, *(end for end in ends if end <= most)])
    assert whole_words([], 3, tokenizer) == 0


def test_a_word_comes_when_the_next_begins(tokenizer: CaptionTokenizer) -> None:
    taken = 0

    def tokens() -> object:
        nonlocal taken
        for token in tokenizer.encode("a dog runs"):
            taken += 1
            yield token

    stream = stream_text(tokens(), tokenizer)  # type: ignore[arg-type]
    first_word = len(tokenizer.encode("a"))
    assert next(stream) == "a"
    assert taken == first_word + 1


def test_calibration_is_a_line_through_the_log_odds() -> None:
    for p in (0.01, 0.3, 0.5, 0.97):
        assert calibrated(math.log(p), Calibration()) == pytest.approx(p)
        odds = 1.5 * math.log(p / (1 - p)) - 0.4
        wanted = 1 / (1 + math.exp(-odds))
        assert calibrated(math.log(p), Calibration(slope=1.5, offset=-0.4)) == pytest.approx(wanted)
    assert 0.999 < calibrated(0.0, Calibration()) < 1
    assert 0 < calibrated(-1e9, Calibration(slope=2.0)) < 1e-6


def test_confidence_is_the_share_of_words_that_people_say_too(tokenizer: CaptionTokenizer) -> None:
    tokens = [*tokenizer.encode("a"), *tokenizer.encode("dog")]
    assert len(word_spans(tokens, tokenizer)) == 2
    first = len(tokenizer.encode("a"))
    log_probs = [math.log(0.9) / first] * first + [math.log(0.4) / (len(tokens) - first)] * (len(tokens) - first)
    hypothesis = Hypothesis(tuple(tokens), (*log_probs, math.log(0.1)), 0.0)
    assert confidence(hypothesis, tokenizer, Calibration()) == pytest.approx((0.9 + 0.4) / 2)
    doubt = Calibration(slope=1.0, offset=-1.0)
    assert confidence(hypothesis, tokenizer, doubt) < confidence(hypothesis, tokenizer, Calibration())
    assert confidence(Hypothesis((), (-0.1,), 0.0), tokenizer, Calibration()) == 0


BERT_TEXTS = [
    "a man's t-shirt",
    "two dogs, a black-and-white cat!",
    'a sign says "stop"',
    "the dogs' house",
    "a doghouse (big) on the beach",
    "10:30 or 3.5, $5 or 50%",
    "'stop' and/or \"a man's hat\"",
    "dog",
    "",
]


@pytest.mark.parametrize("text", BERT_TEXTS)
def test_words_of_wordpiece_are_those_of_the_text(text: str, bert: CaptionTokenizer) -> None:
    """``##`` pieces belong to their word, and so do punctuation marks that are joined to it."""
    text = text.replace("50%", "5%")
    tokens = bert.encode(text)
    hypothesis = Hypothesis(tuple(tokens), tuple([-0.5] * (len(tokens) + 1)), 0.0)
    found = word_log_probs(hypothesis, bert)
    spans = word_spans(tokens, bert)
    assert bert.decode(tokens) == text
    assert [word for word, _ in found] == word_texts(tokens, bert) == text.split()
    assert [value for _, value in found] == [-0.5 * (end - start) for start, end in spans]
    assert [place for start, end in spans for place in range(start, end)] == list(range(len(tokens)))


@pytest.mark.parametrize("text", BERT_TEXTS)
def test_a_stream_of_wordpiece_joins_to_the_text(text: str, bert: CaptionTokenizer) -> None:
    tokens = bert.encode(text)
    for ending in ([], [bert.config.eos_id], [bert.config.eos_id, *tokens]):
        pieces = list(stream_text([*tokens, *ending], bert))
        assert "".join(pieces) == bert.decode(tokens)
        assert [piece.strip() for piece in pieces] == bert.decode(tokens).split()


def test_any_tokens_of_wordpiece_stream_as_they_are_decoded(bert: CaptionTokenizer) -> None:
    generator = random.Random(0)
    for _ in range(300):
        tokens = [generator.randrange(bert.vocab_size) for _ in range(9)]
        tokens = [token for token in tokens if token != bert.config.eos_id]
        assert "".join(stream_text(tokens, bert)) == bert.decode(tokens)
        assert [word for word in word_texts(tokens, bert) if word] == bert.decode(tokens).split()


def test_words_of_wordpiece_come_a_few_words_later(bert: CaptionTokenizer) -> None:
    taken = 0

    def tokens() -> Iterator[int]:
        nonlocal taken
        for token in bert.encode("a man's hat on the beach in a house"):
            taken += 1
            yield token

    stream = stream_text(tokens(), bert)
    assert next(stream) == "a"
    assert next(stream) == " man's"
    assert taken < 10


def test_whole_words_of_wordpiece(bert: CaptionTokenizer) -> None:
    tokens = bert.encode("a man's t-shirt, doghouse")
    pieces = [bert.pieces[token] for token in tokens]
    assert pieces == [b" a", b" man", b" '", b" s", b" t", b" -", b" shirt", b" ,", b" dog", b"house"]
    kept = [whole_words(tokens, most, bert) for most in range(len(tokens) + 1)]
    assert kept == [0, 1, 1, 1, 4, 4, 4, 4, 8, 8, 10]
