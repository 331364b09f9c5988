"""Checked addresses of tensors for the compiled library, which trusts them; no other code passes addresses."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.errors import UsageError


def address(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Return the address of a contiguous tensor.

    Raises ``UsageError`` for another ``dtype``, ``shape`` or device, or a tensor that is not contiguous: someone has
    changed a prepared model.
    """
    if not tensor.is_contiguous():
        raise _refusal(tensor, dtype, shape)
    return address_of_lines(tensor, dtype, *shape)


def address_of_lines(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Return the address of a tensor whose last axis is contiguous; its other strides may have any value."""
    fits = tensor.device.type == "cpu" and tensor.dtype == dtype and tensor.shape == shape
    if not fits or (shape and shape[-1] > 1 and tensor.stride(-1) != 1):
        raise _refusal(tensor, dtype, shape)
    return tensor.data_ptr()


def require(fits: bool, what: str) -> None:
    """Raise ``UsageError`` unless ``fits``; ``what`` describes the mismatch of the library's arguments."""
    if not fits:
        raise UsageError(
            f"the decoding step cannot run: {what}; load the captioner again and leave its model unchanged"
        )


def _refusal(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> UsageError:
    expected = f"contiguous {_named(dtype)} of shape {shape} on the CPU"
    actual = f"{_named(tensor.dtype)} of shape {tuple(tensor.shape)} and strides {tensor.stride()} on {tensor.device}"
    return UsageError(
        f"the decoding step cannot run: it reads {expected}, not {actual}; load the captioner again and leave its "
        "model unchanged"
    )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
