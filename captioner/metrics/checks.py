"""The checks of the input of all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from captioner.errors import DataError

Caption: TypeAlias = Sequence[str]
"""One caption as words (``captioner.metrics.words.words``)."""


def check_corpus(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> None:
    """Raise ``DataError`` unless there is one candidate per image and at least one reference for each."""
    if len(candidates) != len(references):
        raise DataError(
            f"{len(candidates)} candidates cannot be scored against the references of {len(references)} images; "
            "give one candidate per image, in the same order"
        )
    if not candidates:
        raise DataError("there is nothing to score; give at least one candidate and its references")
    check_references(references)
    for index, candidate in enumerate(candidates):
        _check_words(candidate, f"candidate {index}")


def check_references(references: Sequence[Sequence[Caption]]) -> None:
    """Raise ``DataError`` if an image has no reference, or one that is a string instead of a list of words."""
    for index, group in enumerate(references):
        if isinstance(group, str) or not group:
            raise DataError(f"image {index} has no list of references; give at least one reference for each image")
        for reference in group:
            _check_words(reference, f"a reference of image {index}")


def _check_words(caption: Caption, name: str) -> None:
    # A string is a sequence of characters: its score would be about three times too high.
    if isinstance(caption, str):
        raise DataError(f"{name} is a string, {caption[:40]!r}; split it with captioner.metrics.words.words first")
