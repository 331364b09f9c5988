"""Settings and weights that all encoders share."""

from __future__ import annotations

import pytest

from captioner.checkpoint.hugging_face.encoders.shared import ratio, side
from captioner.errors import CheckpointError


def test_the_ratio_gives_exactly_that_many_units() -> None:
    for width in (7, 24, 384, 1536):
        assert all(int(width * ratio(hidden, width)) == hidden for hidden in range(1, 2 * width))


def test_a_square_in_each_form() -> None:
    assert [side(value, "size", "it") for value in (8, [8, 8], (8, 8), {"height": 8, "width": 8})] == [8] * 4


@pytest.mark.parametrize("value", [None, 0, True, "8", [8], [8, 9], [[8], [8]], {"height": 8}, {"a": 8, "b": 8}])
def test_no_square(value: object) -> None:
    with pytest.raises(CheckpointError, match="only square images"):
        side(value, "size", "it")
