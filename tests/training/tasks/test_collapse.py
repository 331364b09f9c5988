"""Failures of adversarial training, detected from the figures of its steps."""

from __future__ import annotations

import pytest

from captioner.training.tasks.collapse import Collapse


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"distinct": 9.0}, "collapse: of 100 sampled captions only 9.0 differ over 4 steps"),
        ({"cider_d": 20.0}, "degenerate reward: CIDEr-D of the samples fell from 60.0 to 20.0"),
        ({"spread": 0.0}, "degenerate reward: all samples of an image have the same reward"),
        ({"discriminator_human": 99.9, "discriminator_drawn": 99.9}, "the discriminator has won: over 8 steps"),
    ],
)
def test_what_has_gone_wrong_is_seen_after_two_windows(change: dict[str, float], said: str) -> None:
    good = {
        "distinct": 80.0,
        "cider_d": 60.0,
        "believed": 30.0,
        "spread": 0.2,
        "discriminator_human": 80.0,
        "discriminator_drawn": 70.0,
    }
    watch = Collapse(5, 4)
    assert [watch.watch(good) for _ in range(4)] == [""] * 4
    heard = [watch.watch({**good, **change}) for _ in range(9)]
    assert heard[:3] == [""] * 3
    assert heard[-1].startswith(said) if said else not any(heard)


def test_captions_that_say_nothing_have_nothing_to_lose() -> None:
    poor = {"distinct": 80.0, "cider_d": 8.0, "believed": 30.0, "spread": 0.2}
    poor |= {"discriminator_human": 80.0, "discriminator_drawn": 70.0}
    watch = Collapse(5, 2)
    assert not any(watch.watch({**poor, "cider_d": cider}) for cider in (8.0, 8.0, 1.0, 0.0, 0.0))
