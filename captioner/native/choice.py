"""The few largest of many numbers, faster than torch's own ``topk`` where the library is."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.native.library import library

MOST = 64  # of src/largest.c


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of each row of ``x`` (..., V), largest first, and their places; both (..., count)."""
    found = library()
    if found is None or x.device.type != "cpu" or x.dtype != torch.float32 or not 0 < count <= min(MOST, x.shape[-1]):
        return x.topk(count, dim=-1)
    x = x.contiguous()
    values = torch.empty(*x.shape[:-1], count)
    places = torch.empty(*x.shape[:-1], count, dtype=torch.long)
    rows = values.numel() // count
    found.captioner_largest(
        x.data_ptr(), rows, x.shape[-1], count, values.data_ptr(), places.data_ptr(), torch.get_num_threads()
    )
    return values, places


def sharpen(logits: Tensor, x: Tensor, table: Tensor, count: int) -> None:
    """Put ``x @ table[i]`` in the place of the ``count`` largest of each row of ``logits`` (N, V); ``x`` (N, D).

    All of it contiguous fp32, where the library is.
    """
    found = library()
    assert found is not None
    assert all(part.is_contiguous() and part.dtype == torch.float32 for part in (logits, x, table))
    assert logits.shape == (x.shape[0], table.shape[0])
    assert x.shape[1] == table.shape[1]
    assert 0 < count <= min(MOST, table.shape[0])
    found.captioner_sharpen(
        logits.data_ptr(), *logits.shape, count, x.data_ptr(), table.data_ptr(), x.shape[1], torch.get_num_threads()
    )
