"""The few largest of many numbers, faster than torch's own ``topk`` where the library is."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.native.addresses import address, require
from captioner.native.library import library

MOST = 64  # of src/largest.c


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of each row of ``x`` (..., V), largest first, and their places; both (..., count)."""
    found = library()
    if found is None or x.device.type != "cpu" or x.dtype != torch.float32 or not 0 < count <= min(MOST, x.shape[-1]):
        return x.topk(count, dim=-1)
    x = x.contiguous()
    shape = *x.shape[:-1], count
    values = torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever torch's defaults have become
    places = torch.empty(shape, dtype=torch.int64, device="cpu")
    found.captioner_largest(
        address(x, torch.float32, *x.shape),
        values.numel() // count,
        x.shape[-1],
        count,
        address(values, torch.float32, *shape),
        address(places, torch.int64, *shape),
        torch.get_num_threads(),
    )
    return values, places


def sharpen(logits: Tensor, x: Tensor, table: Tensor, count: int) -> None:
    """Put ``x @ table[i]`` in the place of the ``count`` largest of each row of ``logits`` (N, V); ``x`` (N, D).

    All of it contiguous fp32 on the CPU, where the library is. Raises ``UsageError`` for anything else.
    """
    found = library()
    assert found is not None
    rows, (words, width) = len(x), table.shape
    require(0 < count <= min(MOST, words), f"{count} of {words} words are asked for")
    found.captioner_sharpen(
        address(logits, torch.float32, rows, words),
        rows,
        words,
        count,
        address(x, torch.float32, rows, width),
        address(table, torch.float32, words, width),
        width,
        torch.get_num_threads(),
    )
