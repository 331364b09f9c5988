"""No tensor of the wrong type or layout reaches the compiled library."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captioner.errors import UsageError
from captioner.native.addresses import address, address_of_lines, require


def test_the_address_of_what_fits() -> None:
    x = torch.zeros(2, 3)
    assert address(x, torch.float32, 2, 3) == x.data_ptr()
    assert address_of_lines(x.t()[:1].t(), torch.float32, 2, 1) == x.data_ptr()
    lines = torch.zeros(1, 3, dtype=torch.bool).expand(4, 3)
    assert address_of_lines(lines, torch.bool, 4, 3) == lines.data_ptr()


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 3, dtype=torch.bfloat16),
        torch.zeros(2, 3, device="meta"),
        torch.zeros(3, 2).t(),
        torch.zeros(2, 2),
        torch.zeros(6),
        torch.zeros(1, 3).expand(2, 3),
    ],
    ids=["dtype", "device", "strides", "shape", "axes", "one row twice"],
)
def test_anything_else_is_one_sentence(x: Tensor) -> None:
    with pytest.raises(UsageError, match=r"it reads contiguous float32 of shape \(2, 3\) on the CPU, not .* load the"):
        address(x, torch.float32, 2, 3)


def test_a_line_lies_in_one_piece() -> None:
    with pytest.raises(UsageError, match="cannot run"):
        address_of_lines(torch.zeros(2, 1).expand(2, 3), torch.float32, 2, 3)
    with pytest.raises(UsageError, match="cannot run: 3 are too many; load the captioner again"):
        require(False, "3 are too many")
