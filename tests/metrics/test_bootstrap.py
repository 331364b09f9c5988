"""Bootstrap intervals cover the true score of known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.errors import DataError
from captioner.metrics.bleu import bleu_counts, bleu_of
from captioner.metrics.bootstrap import draws, intervals, paired_differences
from captioner.metrics.ngrams import Floats
from captioner.metrics.statistic import Statistic, averaged, mean_of, ratio_of

from .rows import row

SETS, IMAGES = 400, 200


def skewed(chance: np.random.Generator) -> Floats:
    """Return scores like CIDEr-D: many low ones and a long tail. Their true mean is exp(0.5 + 0.32)."""
    return chance.lognormal(0.5, 0.8, IMAGES)


def covered(statistics: list[Statistic], truth: float) -> float:
    found = [intervals({"m": statistic}, resamples=400, seed=n)["m"] for n, statistic in enumerate(statistics)]
    return float(np.mean([inside.low <= truth <= inside.high for inside in found]))


def test_the_interval_of_a_mean_covers_it_95_times_in_100() -> None:
    chance = np.random.default_rng(1)
    share = covered([mean_of(skewed(chance)) for _ in range(SETS)], float(np.exp(0.5 + 0.32)))
    assert 0.91 < share < 0.98  # 0.95, less what a long tail costs; the error of 400 sets is 0.011


def test_the_interval_of_a_ratio_covers_it_95_times_in_100() -> None:
    chance = np.random.default_rng(2)
    lengths = [chance.integers(4, 16, IMAGES) for _ in range(SETS)]
    statistics = [ratio_of(chance.binomial(n, 0.6), n, scale=100) for n in lengths]
    assert 0.92 < covered(statistics, 60.0) < 0.98


def test_no_difference_is_found_five_times_in_a_hundred() -> None:
    chance = np.random.default_rng(3)
    found = []
    for n in range(SETS):
        hard = skewed(chance)  # an image that is hard for one is hard for the other
        pair = [{"m": mean_of(hard + chance.normal(0, 0.5, IMAGES))} for _ in range(2)]
        found.append(paired_differences(*pair, resamples=400, seed=n)["m"].p)
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.08


def test_a_pair_finds_what_two_intervals_do_not() -> None:
    chance = np.random.default_rng(4)
    scores = skewed(chance)
    first, second = {"m": mean_of(scores)}, {"m": mean_of(scores + 0.1 + chance.normal(0, 0.05, IMAGES))}
    gap = paired_differences(first, second)["m"]
    assert gap.value == pytest.approx(0.1, abs=0.02)
    assert 0 < gap.interval.low < gap.value < gap.interval.high
    assert gap.p < 0.01
    assert intervals(first)["m"].high > intervals(second)["m"].low


def test_p_is_two_sided_and_has_a_least_value() -> None:
    ahead = paired_differences({"m": mean_of([1.0, 2.0])}, {"m": mean_of([2.0, 3.0])}, resamples=99)["m"]
    assert ahead.p == 2 / 100
    # one of two images decides: a draw of the other one alone turns the order round
    first, second = {"m": mean_of([0.0, 0.0])}, {"m": mean_of([3.0, -1.0])}
    turned = sum(float(drawn @ [3.0, -1.0]) <= 0 for drawn in np.concatenate(list(draws(2, 99))))
    assert turned > 0
    assert paired_differences(first, second, resamples=99)["m"].p == pytest.approx(2 * (turned + 1) / 100)
    assert paired_differences(second, first, resamples=99)["m"].p == pytest.approx(2 * (turned + 1) / 100)


def test_draws_are_whole_the_same_and_of_all_images() -> None:
    first = np.concatenate(list(draws(50, 30)))
    assert first.shape == (30, 50)
    assert (first.sum(axis=1) == 50).all()
    assert (first == np.concatenate(list(draws(50, 30)))).all()
    assert (first != np.concatenate(list(draws(50, 30, seed=1)))).any()
    assert sum(len(block) for block in draws(3_000_000, 3)) == 3


def test_bleu_is_resampled_through_its_counts() -> None:
    said, truth = [list("abcde"), list("abcxe"), list("zzzz")], [[list("abcde")], [list("abcde")], [list("abcd")]]
    counts = bleu_counts(row(said, truth))
    found = intervals({"bleu4": Statistic(values=counts, score=bleu_of)})["bleu4"]
    assert (found.low, found.high) == (0, 100)  # three of the one, and three of the other
    mean = averaged([Statistic(values=counts, score=bleu_of), mean_of(np.array([1.0, 2.0, 6.0]))])
    assert mean.value == pytest.approx((float(bleu_of(counts.sum(axis=0))) + 3) / 2)
    assert mean.per_image == pytest.approx((bleu_of(counts) + np.array([1, 2, 6])) / 2)


def test_other_images_cannot_be_paired() -> None:
    with pytest.raises(DataError, match="on the same images"):
        paired_differences({"m": mean_of([1.0])}, {"m": mean_of([1.0, 2.0])})
    assert intervals({}) == {}
    assert ratio_of([1.0], [0.0]).value == 0
