"""Candidates and their references as the rows of the vectorised metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.ngrams import Ngrams, References, Row


def row(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> Row:
    """Return one candidate per image and all its references."""
    images = len(candidates)
    table = Ngrams.of([*candidates, *(caption for group in references for caption in group)])
    image = np.repeat(np.arange(images), [len(group) for group in references])
    found = References(table=table, image=image, reference=images + np.arange(len(image)))
    return Row(references=found, candidates=np.arange(images))
