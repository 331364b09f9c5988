"""Calibration against synthetic forecasters with known errors."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.errors import DataError
from captioner.metrics.calibration import calibration_error, fit_calibration, rank_correlation


def test_error_by_hand() -> None:
    # Bins of a tenth: one of 0.95 (twice right, twice wrong), one of 0.15 (never right).
    p = [0.95, 0.95, 0.95, 0.95, 0.15, 0.15]
    y = [True, True, False, False, False, False]
    assert calibration_error(p, y, bins=10) == pytest.approx(100 * (4 * 0.45 + 2 * 0.15) / 6)
    assert calibration_error([1.0, 0.0], [True, False]) == 0


def forecasts(slope: float, offset: float, count: int = 200_000) -> tuple[list[float], list[bool]]:
    """Return probabilities that are wrong by a known line: the truth is sigmoid(slope * logit(p) + offset)."""
    draw = np.random.default_rng(0)
    odds = draw.normal(0.5, 2, count)
    truth = 1 / (1 + np.exp(-(slope * odds + offset)))
    return (1 / (1 + np.exp(-odds))).tolist(), (draw.random(count) < truth).tolist()


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, -0.7), (1.8, 0.4)])
def test_a_known_line_is_found_and_repairs_the_error(slope: float, offset: float) -> None:
    p, y = forecasts(slope, offset)
    found = fit_calibration(p, y)
    assert (found.slope, found.offset) == (pytest.approx(slope, abs=0.03), pytest.approx(offset, abs=0.03))
    odds = found.slope * np.log(np.array(p) / (1 - np.array(p))) + found.offset
    assert calibration_error((1 / (1 + np.exp(-odds))).tolist(), y) < 0.5
    if slope != 1:
        assert calibration_error(p, y) > 5


def test_forecasts_that_say_nothing_are_no_trouble() -> None:
    """By hand: one of fifty is right for any forecast, so the line is level. A plain Newton step would overshoot it."""
    found = fit_calibration([0.001] * 50 + [0.999] * 50, ([True] + [False] * 49) * 2)
    assert found.slope == pytest.approx(0, abs=1e-6)
    assert found.offset == pytest.approx(np.log(1 / 49), abs=1e-6)


def test_certain_forecasts_are_no_trouble() -> None:
    found = fit_calibration([1.0, 1.0, 0.0, 0.5], [True, False, False, True])
    assert np.isfinite([found.slope, found.offset]).all()


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 300]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [3, 2, 1]) == 0
    # 1 2 2 4 against 1 3 2 4 has ranks 1 2.5 2.5 4 and 1 3 2 4: Pearson's r of these is 4.5 / sqrt(4.5 * 5).
    assert rank_correlation([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_nothing_to_judge() -> None:
    with pytest.raises(DataError, match="give one for each"):
        calibration_error([], [])
    with pytest.raises(DataError, match="right and tokens that were wrong"):
        fit_calibration([0.5, 0.6], [True, True])
    with pytest.raises(DataError, match="not 1 and 2"):
        rank_correlation([1], [1, 2])
