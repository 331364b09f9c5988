"""Recall at k, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.metrics.retrieval import retrieval


def test_by_hand() -> None:
    """There are three images; the first has two captions, the second of which retrieves the third image first."""
    similarity = np.array([[0.9, 0.1, 0.2, 0.3], [0.4, 0.0, 0.5, 0.6], [0.1, 0.7, 0.2, 0.4]])
    found = retrieval(similarity, np.array([0, 0, 1, 2]))
    # Images: the first finds its own; the second has 0.6 before its 0.5; the third has 0.7 before its 0.4.
    assert found.captions == pytest.approx((100 / 3, 100, 100))
    # Captions: the first and the third find their image; the second has 0.7, the fourth 0.6 before it.
    assert found.images == pytest.approx((50, 100, 100))


def test_who_tells_nothing_apart_finds_nothing() -> None:
    found = retrieval(np.zeros((20, 20)), np.arange(20))
    assert found.captions == found.images == (0, 0, 0)
    assert retrieval(np.eye(20), np.arange(20)).images == (100, 100, 100)
