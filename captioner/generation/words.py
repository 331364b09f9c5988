"""Captions word by word: texts, confidence, and streaming."""

from __future__ import annotations

import codecs
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from captioner.config import Calibration
from captioner.generation.hypothesis import Hypothesis
from captioner.text import CaptionTokenizer


def word_spans(tokens: Sequence[int], tokenizer: CaptionTokenizer) -> list[tuple[int, int]]:
    """Return the (start, end) of each word in ``tokens``.

    Punctuation belongs to the word before it, and a space of its own to the word after it.
    """
    return _spans(list(tokenizer.written(tokens)), tokenizer)


def _spans(pieces: Sequence[bytes], tokenizer: CaptionTokenizer) -> list[tuple[int, int]]:
    starts: list[int] = []
    blank = False  # the word has only spaces so far
    for i, piece in enumerate(pieces):
        begins = not starts or (_begins_word(b"".join(pieces[i : i + 4]), tokenizer) and not blank)
        if begins:
            starts.append(i)
        blank = (begins or blank) and not piece.strip()
    return list(zip(starts, [*starts[1:], len(pieces)], strict=False))


def word_texts(tokens: Sequence[int], tokenizer: CaptionTokenizer) -> list[str]:
    """Return the text of each word in ``tokens``, one for each of ``word_spans``."""
    pieces = list(tokenizer.written(tokens))
    spans = _spans(pieces, tokenizer)
    return [b"".join(pieces[start:end]).decode(errors="replace").strip() for start, end in spans]


def whole_words(tokens: Sequence[int], most: int, tokenizer: CaptionTokenizer) -> int:
    """Return how many of a caption's first ``most`` ``tokens`` are whole words, without a truncated last word."""
    return max((end for _, end in word_spans(tokens, tokenizer) if end <= most), default=0)


def _begins_word(text: bytes, tokenizer: CaptionTokenizer) -> bool:
    """Return whether the bytes of one or more tokens begin a word: with a space, or in a script without spaces."""
    if text[:1] == b" " or tokenizer.config.words == "ptb" or text[:1] < b"\xe0":
        return text[:1] == b" "
    first = text.decode(errors="ignore")[:1]  # the tokens may end inside the character
    return not first or unicodedata.category(first)[0] not in "PZM"


def word_log_probs(hypothesis: Hypothesis, tokenizer: CaptionTokenizer) -> list[tuple[str, float]]:
    """Return each word with its log-probability, given the image and the words before it."""
    values = hypothesis.log_probs
    sums = (sum(values[start:end]) for start, end in word_spans(hypothesis.tokens, tokenizer))
    return list(zip(word_texts(hypothesis.tokens, tokenizer), sums, strict=True))


def calibrated(log_prob: float, calibration: Calibration) -> float:
    """Return the probability, 0 to 1, that people also use a word that the model wrote with ``log_prob``."""
    p = min(max(math.exp(log_prob), 1e-12), 1 - 1e-7)
    odds = calibration.slope * (math.log(p) - math.log1p(-p)) + calibration.offset
    return 1 / (1 + math.exp(-odds))


def confidence(hypothesis: Hypothesis, tokenizer: CaptionTokenizer, calibration: Calibration) -> float:
    """Return the expected share of a caption's words, 0 to 1, that people also use; 0 without words."""
    chances = [calibrated(value, calibration) for _, value in word_log_probs(hypothesis, tokenizer)]
    return sum(chances) / len(chances) if chances else 0.0


def stream_text(tokens: Iterable[int], tokenizer: CaptionTokenizer) -> Iterator[str]:
    """Yield the text of ``tokens`` in whole words, each when the next one begins; joined they are the caption."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    waiting = ""
    begun = False
    caption = takewhile(lambda token: token != tokenizer.config.eos_id, tokens)
    for piece in tokenizer.written(caption):
        if _begins_word(piece, tokenizer) and waiting.strip():
            yield waiting
            waiting, begun = "", True
        waiting += decoder.decode(piece)
        waiting = waiting if begun else waiting.lstrip()
    waiting = (waiting + decoder.decode(b"", final=True)).rstrip()
    if waiting:
        yield waiting
