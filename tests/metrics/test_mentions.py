"""Mentions, computed by hand."""

from __future__ import annotations

import pytest

from captioner.metrics.mentions import mention_f1, mentions, mentions_of_kind

DOG, BALL, TREE, CAT = range(4)


@pytest.mark.parametrize(
    ("named", "references", "f1"),
    [
        ({DOG, BALL}, [{DOG, BALL}, {DOG, BALL}], 100.0),
        ({DOG}, [{DOG, BALL}, {DOG}], 100 * 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ({DOG, CAT}, [{DOG}, {DOG}], 100 * 2 * 0.5 / 1.5),
        ({CAT}, [{DOG}], 0.0),
        (set(), [{DOG}], 0.0),
        ({DOG}, [set(), set()], 0.0),
        (set(), [set()], 100.0),
    ],
)
def test_precision_counts_any_reference_and_recall_counts_how_many(
    named: set[int], references: list[set[int]], f1: float
) -> None:
    assert mention_f1(named, references) == pytest.approx(f1)


def test_captions_that_name_what_no_reference_names_are_counted() -> None:
    found = mentions([{DOG}, {CAT}, {TREE, CAT}], [[{DOG}], [{DOG}], [{TREE}, {CAT}]])
    assert found.false == pytest.approx(100 / 3)
    assert found.f1 == pytest.approx((100 + 0 + 100) / 3)


def test_a_kind_is_named_where_it_is_and_not_elsewhere() -> None:
    found = mentions_of_kind(DOG, [{DOG}, {CAT}, {DOG}, set()], [True, True, False, False])
    assert found.f1 == pytest.approx(100 * 2 * 1 / (2 + 2))
    assert found.false == pytest.approx(50)
    assert mentions_of_kind(DOG, [set()], [False]).f1 == 0
