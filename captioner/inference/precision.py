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
BF16_BEHIND = ("AVX2",)
"""The capabilities of torch on x86 CPUs where bf16 was measured and is slower than fp32 (docs/speed.md): they have no
instructions for it."""


def faster(precision: Precision, level: str | None = None) -> bool:
    """Return whether a precision may be faster than fp32 on this CPU, for int8 at a level of the native library.

    The result is False only if a measurement found fp32 as fast.
    """
    if precision == "bf16":
        import torch

        return torch.backends.cpu.get_cpu_capability() not in BF16_BEHIND
    from captioner.native.library import status

    level = level or status().level or TORCH
    return precision != "int8" or INT8_AHEAD.get(level) is not False
