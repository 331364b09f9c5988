"""The precisions of inference, and which of them is faster on this CPU."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16", "int8"]

TORCH = "torch"  # torch operators alone
INT8_AHEAD: dict[str, bool | None] = {
    "amx": True,
    "avx512": True,
    "avx2-vnni": True,
    "avx2": True,
    "sse42": None,
    "neon": None,
    TORCH: False,
}
"""Whether int8 captions faster than fp32, by the level of the native library; None if nobody has measured it
(docs/speed.md)."""


def faster(precision: Precision, level: str | None = None) -> bool:
    """Return whether a precision may be faster than fp32 at a level of the native library, by default this CPU's.

    The result is False only if a measurement found fp32 as fast.
    """
    from captioner.native.library import status

    level = level or status().level or TORCH
    return precision != "int8" or INT8_AHEAD.get(level) is not False
