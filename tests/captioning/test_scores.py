"""Scores of texts under images by any judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from captioner.captioning.scores import score_texts
from captioner.errors import UsageError

CHECKPOINT: Any = SimpleNamespace(
    tokenizer=SimpleNamespace(encode=lambda text: [len(word) for word in text.split()]),
    config=SimpleNamespace(decoder=SimpleNamespace(context=4)),
)


def judge(
    checkpoint: Any, images: Sequence[str], captions: Sequence[Sequence[int]], *, batch_size: int
) -> Iterator[list[list[float]]]:
    assert checkpoint is CHECKPOINT
    for start in range(0, len(images), batch_size):
        yield [[float(len(image) * sum(ids)) for ids in captions] for image in images[start : start + batch_size]]


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_a_row_for_each_image_and_a_score_for_each_text(batch_size: int) -> None:
    rows = score_texts(judge, CHECKPOINT, ["a", "bb", "ccc"], ["one", "two three"], batch_size=batch_size)
    assert rows == [[3, 8], [6, 16], [9, 24]]


def test_a_text_longer_than_the_context_is_refused_before_an_image_is_read() -> None:
    def never(*given: object, **named: object) -> Iterator[list[list[float]]]:
        raise AssertionError

    with pytest.raises(UsageError, match=r"^the caption 'a b c d'\.\.\. has 4 tokens, the model reads 3; cut it$"):
        score_texts(never, CHECKPOINT, ["a"], ["a b", "a b c d"], batch_size=1)
