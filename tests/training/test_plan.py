"""The plan of the items in each step."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest

from captioner.errors import DataError
from captioner.training.plan import Plan

# Digests of orders, by sha256 in test_the_order_of_an_epoch_is_that_of_earlier_versions at commit 4e23991.
DIGESTS = ["8eb9dbe942b1", "0b859d73f5dc", "2b173bb1d88a", "be0bb07a4b65", "402777f23c02", "fe51ae4735d8"]


def plan(**changes: object) -> Plan:
    settings: dict[str, object] = {"items": 22, "batch_size": 8, "accumulate": 2, "seed": "0/0", **changes}
    return Plan(**settings)  # type: ignore[arg-type]


def test_two_processes_together_take_what_one_alone_would() -> None:
    alone = list(plan(accumulate=1).keys(3))
    both = [list(plan(accumulate=1, process=rank, processes=2).keys(3)) for rank in (0, 1)]
    for whole, left, right in zip(alone, *both, strict=True):
        assert not set(left) & set(right)
        assert set(left) | set(right) == set(whole)
        assert len(left) == len(right) == 4


def test_accumulated_parts_are_the_step_in_pieces() -> None:
    whole = list(plan(accumulate=1).keys(0))
    parts = list(plan().keys(0))
    assert len(parts) == 2 * len(whole)
    assert [set(a + b) for a, b in zip(parts[::2], parts[1::2], strict=True)] == [set(step) for step in whole]


def test_an_epoch_resumed_in_the_middle_goes_on_as_it_would_have() -> None:
    assert plan().steps == 2
    assert list(plan().keys(5, 1)) == list(plan().keys(5))[2:]
    assert list(plan().keys(5, 2)) == []


def test_epochs_and_stages_are_drawn_anew() -> None:
    def order(epoch: int, seed: str) -> list[int]:
        return [place for part in plan(seed=seed).keys(epoch) for place, _ in part]

    assert order(0, "0/0") != order(1, "0/0")
    assert order(0, "0/0") != order(0, "0/1")
    keys = [key for epoch in range(2) for part in plan().keys(epoch) for key in part]
    assert len({seed for _, seed in keys}) == len(keys), "an item saw the same view twice"


def test_the_odd_rest_waits_for_another_permutation() -> None:
    missing = [set(range(22)) - {place for part in plan().keys(epoch) for place, _ in part} for epoch in range(9)]
    assert all(len(rest) == 6 for rest in missing)
    assert len({frozenset(rest) for rest in missing}) > 1
    few = Plan(items=5, batch_size=8, accumulate=1, seed="")
    assert few.steps == 1
    assert sorted(place for place, _ in next(few.keys(0))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("items", [7, 40, 300, 3000])
@pytest.mark.parametrize("batch_size", [8, 32, 64])
@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("shape", ["none", "distinct", "equal", "two"])
def test_epochs_show_every_item_and_none_much_more_often(
    items: int, batch_size: int, processes: int, accumulate: int, shape: str
) -> None:
    """An epoch does not always skip the items with the longest captions."""
    lengths = {"none": None, "distinct": range(items), "equal": [3] * items, "two": [n % 2 for n in range(items)]}[
        shape
    ]
    epochs = 30
    plans = [
        plan(items=items, batch_size=batch_size, accumulate=accumulate, process=n, processes=processes, lengths=lengths)
        for n in range(processes)
    ]
    seen = Counter(place for one in plans for epoch in range(epochs) for part in one.keys(epoch) for place, _ in part)
    assert seen.total() == epochs * min(items, plans[0].steps * batch_size)
    assert len(seen) == items, "an item is never shown"
    left_out = 1 - seen.total() / (epochs * items)  # the share of an epoch that waits
    most_missed = epochs - min(seen.values())
    assert most_missed <= epochs * left_out + 6 * (epochs * left_out * (1 - left_out)) ** 0.5
    assert max(seen.values()) <= epochs


def test_lengths_bring_like_to_like_and_every_item_once() -> None:
    lengths = [(7 * n) % 64 for n in range(64)]
    steps = [[place for place, _ in step] for step in plan(items=64, accumulate=1, lengths=lengths).keys(0)]
    assert Counter(place for step in steps for place in step) == Counter(range(64))
    assert all(max(lengths[p] for p in step) - min(lengths[p] for p in step) == 7 for step in steps)
    firsts = [lengths[step[0]] for step in steps]
    assert firsts != sorted(firsts), "short captions would always come first"


@pytest.mark.parametrize("whole", [10**6, 0], ids=["one permutation", "runs"])
def test_repeats_show_items_so_often_on_average(monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    monkeypatch.setattr("captioner.training.plan.WHOLE", whole)
    repeats = [2.5] * 100 + [1.0] * 300 + [0.3] * 200
    one = plan(items=600, accumulate=1, batch_size=10, repeats=repeats)
    assert (one.taken, one.steps) == (610, 61)
    epochs = [Counter(place for step in one.keys(epoch) for place, _ in step) for epoch in range(200)]
    assert all(epoch.total() == 610 for epoch in epochs)
    assert len({frozenset(epoch.items()) for epoch in epochs}) > 5
    for times, places in ((2.5, range(100)), (1.0, range(100, 400)), (0.3, range(400, 600))):
        low, high = math.floor(times), math.ceil(times)
        assert all(low - 1 <= epoch[n] <= high for epoch in epochs for n in places)  # one may wait for another epoch
        mean = [sum(epoch[n] for epoch in epochs) / 200 for n in places]
        assert all(abs(average - times) < 0.15 for average in mean)


@pytest.mark.parametrize("repeats", [None, 0.4, 0.1, 3.0])
@pytest.mark.parametrize("sorted_by_length", [False, True])
@pytest.mark.parametrize("processes", [1, 5])
def test_steps_larger_than_a_group_of_runs_are_full(
    monkeypatch: pytest.MonkeyPatch, repeats: float | None, sorted_by_length: bool, processes: int
) -> None:
    """A group of runs holds 8 items, or 0.8 copies of them on average; a step collects the copies of many groups."""
    for name, value in (("WHOLE", 0), ("RUN", 4), ("RUNS", 2)):
        monkeypatch.setattr(f"captioner.training.plan.{name}", value)
    plans = [
        plan(
            items=601,
            batch_size=10,
            accumulate=1,
            process=n,
            processes=processes,
            lengths=range(601) if sorted_by_length else None,
            repeats=None if repeats is None else [repeats] * 601,
        )
        for n in range(processes)
    ]
    for epoch in range(3):
        parts = [[len(part) for part in one.keys(epoch)] for one in plans]
        assert parts == [[10 // processes] * plans[0].steps] * processes
        assert plans[0].steps == plans[0].taken // 10 == int(601 * (repeats or 1)) // 10
        keys = [key for one in plans for part in one.keys(epoch) for key in part]
        assert len(set(keys)) == len(keys)
    if repeats is None:
        seen = {place for one in plans for epoch in range(5) for part in one.keys(epoch) for place, _ in part}
        assert len(seen) == 601, "an item is never shown"


@pytest.mark.parametrize("sorted_by_length", [False, True])
def test_an_epoch_of_runs_smaller_than_a_step_is_one_short_step(
    monkeypatch: pytest.MonkeyPatch, sorted_by_length: bool
) -> None:
    for name, value in (("WHOLE", 0), ("RUN", 4), ("RUNS", 2)):
        monkeypatch.setattr(f"captioner.training.plan.{name}", value)
    settings = {"items": 100, "batch_size": 32, "accumulate": 2, "repeats": [0.2] * 100}
    lengths = range(100) if sorted_by_length else None
    plans = [plan(**settings, lengths=lengths, process=n, processes=5) for n in range(5)]
    for epoch in range(9):
        assert [[len(part) for part in one.keys(epoch)] for one in plans] == [[2, 2]] * 5
    with pytest.raises(DataError, match="20 items in steps of 32 cannot feed 11 processes with 2 parts each"):
        plan(**settings, processes=11)


def test_the_order_of_an_epoch_is_that_of_earlier_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that an earlier version began resumes in its order."""

    def digest(**settings: object) -> str:
        keys = list(plan(items=700, batch_size=16, **settings).keys(2))
        return hashlib.sha256(repr(keys).encode()).hexdigest()[:12]

    cases: list[dict[str, object]] = [{}, {"lengths": [n % 13 for n in range(700)]}, {"repeats": [1.7] * 700}]
    found = [digest(**case) for case in cases]
    monkeypatch.setattr("captioner.training.plan.WHOLE", 0)
    monkeypatch.setattr("captioner.training.plan.RUN", 8)
    found += [digest(**case) for case in cases]
    assert found == DIGESTS


def test_repeats_of_one_change_nothing_but_the_permutation() -> None:
    once = plan(repeats=[1.0] * 22)
    assert once.steps == plan().steps
    assert sorted(place for step in plan(repeats=[1.0] * 22, batch_size=22).keys(0) for place, _ in step) == [
        *range(22)
    ]


def test_copies_of_an_item_in_an_epoch_differ_in_view() -> None:
    keys = [key for step in plan(items=40, accumulate=1, repeats=[3.0] * 40).keys(0) for key in step]
    assert len(set(keys)) == len(keys) == 120
    assert Counter(place for place, _ in keys) == dict.fromkeys(range(40), 3)


def test_repeats_and_lengths_go_together() -> None:
    lengths = [n // 8 for n in range(64)]
    steps = [
        [place for place, _ in step] for step in plan(items=64, accumulate=1, lengths=lengths, repeats=[2] * 64).keys(0)
    ]
    assert all(len({lengths[place] for place in step}) == 1 for step in steps)


def test_too_few_items_for_the_processes_are_refused() -> None:
    with pytest.raises(DataError, match="cannot feed 3 processes with 2 parts each"):
        plan(items=5, processes=3)
