"""A top k for rows of many numbers, faster than torch's ``topk`` if the library is available."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.native.addresses import address, require
from captioner.native.library import level, library

MOST = 64  # of src/largest.c


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest of each row of ``x`` (..., V), largest first, and their indices; (..., count)."""
    compiled = library()
    if (
        compiled is None
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or not 0 < count <= min(MOST, x.shape[-1])
    ):
        return x.topk(count, dim=-1)
    x = x.contiguous()
    shape = *x.shape[:-1], count
    values = torch.empty(shape, dtype=torch.float32, device="cpu")  # explicit, in case torch's defaults were changed
    places = torch.empty(shape, dtype=torch.int64, device="cpu")
    compiled.captioner_largest(
        address(x, torch.float32, *x.shape),
        values.numel() // count,
        x.shape[-1],
        count,
        address(values, torch.float32, *shape),
        address(places, torch.int64, *shape),
        level(),
        torch.get_num_threads(),
    )
    return values, places


def sharpen(logits: Tensor, x: Tensor, table: Tensor, bias: Tensor | None, count: int) -> None:
    """Replace the ``count`` largest of each row of ``logits`` (N, V) by ``x @ table[i] + bias[i]``; ``x`` (N, D).

    It needs the library and contiguous fp32 tensors on the CPU. Raises ``UsageError`` for other tensors.
    """
    compiled = library()
    assert compiled is not None
    rows, (words, width) = len(x), table.shape
    require(0 < count <= min(MOST, words), f"count must be from 1 to {min(MOST, words)}, not {count}")
    compiled.captioner_sharpen(
        address(logits, torch.float32, rows, words),
        rows,
        words,
        count,
        address(x, torch.float32, rows, width),
        address(table, torch.float32, words, width),
        None if bias is None else address(bias, torch.float32, words),
        width,
        level(),
        torch.get_num_threads(),
    )
