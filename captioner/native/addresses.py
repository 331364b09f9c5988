"""Addresses of tensors for the compiled library, which trusts each of them; there is no other way to one."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.errors import UsageError


def address(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Return where the numbers of ``tensor`` lie, one after the other.

    Raises ``UsageError`` where they are of another ``dtype`` or ``shape``, on another device, or lie apart: someone has
    changed a prepared model.
    """
    if not tensor.is_contiguous():
        raise _refusal(tensor, dtype, shape)
    return address_of_lines(tensor, dtype, *shape)


def address_of_lines(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Return the same of a tensor whose last axis alone has to lie in one piece; its other strides may be any."""
    fits = tensor.device.type == "cpu" and tensor.dtype == dtype and tensor.shape == shape
    if not fits or (shape and shape[-1] > 1 and tensor.stride(-1) != 1):
        raise _refusal(tensor, dtype, shape)
    return tensor.data_ptr()


def require(fits: bool, what: str) -> None:
    """Raise ``UsageError`` where numbers that the library takes do not fit together; ``what`` says which."""
    if not fits:
        raise UsageError(
            f"a decoding step cannot be made: {what}; load the captioner again and leave its model as it is"
        )


def _refusal(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> UsageError:
    wanted = f"{_named(dtype)} of shape {shape} in one piece on the CPU"
    found = f"{_named(tensor.dtype)} of shape {tuple(tensor.shape)} and strides {tensor.stride()} on {tensor.device}"
    return UsageError(
        f"a decoding step cannot be made: it reads {wanted}, not {found}; load the captioner again and leave its model "
        "as it is"
    )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
