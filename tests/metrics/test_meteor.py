"""METEOR without Java; the slow tests compare it with the program."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.errors import CaptionerError
from captioner.metrics import meteor
from captioner.metrics.spice import spice


def counts(**columns: float) -> np.ndarray:
    """Return counts of six candidate and five reference words, two and one of them function words."""
    found = np.zeros(23)
    found[:4] = 6, 5, 2, 1
    for place, value in columns.items():
        found[int(place[1:])] = value
    return found


def test_by_hand() -> None:
    # Two content words and one function word match exactly, in two pieces.
    found = counts(c4=2, c5=2, c6=1, c7=1, c20=2, c21=3, c22=3)
    precision = (0.75 * 2 + 0.25 * 1) / (0.75 * 4 + 0.25 * 2)
    recall = (0.75 * 2 + 0.25 * 1) / (0.75 * 4 + 0.25 * 1)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert float(meteor.meteor_of(found)) == pytest.approx(100 * mean * (1 - 0.6 * (2 / 3) ** 0.2))
    stem = counts(c8=2, c9=2, c20=2, c21=2, c22=2)  # a stem counts 0.6
    exact = counts(c4=2, c5=2, c20=2, c21=2, c22=2)
    both = meteor.meteor_of(np.stack([stem, exact, counts()]))
    assert both[0] == pytest.approx(0.6 * both[1])
    assert both[2] == 0


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor.shutil, "which", lambda name: None)
    assert meteor.missing_for_meteor() == "needs Java"
    with pytest.raises(CaptionerError, match="METEOR needs Java; install"):
        meteor.Meteor()
    with pytest.raises(CaptionerError, match="SPICE needs Java"):
        spice([["a"]], [[["a"]]])
    monkeypatch.setattr(meteor.shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setattr(meteor, "_folder", lambda: None)
    assert meteor.missing_for_meteor() == "needs pycocoevalcap"
