"""Settings of the C allocator: keep freed memory in this process, or return it to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory in this process, for the next tensor, until the process ends.

    By default glibc requests each large block from the system and returns it when it is freed, and the system zeroes
    every page: this took 40 % of the time to encode photos (EfficientNet-Lite2, 288 pixels, 16 photos, two cores: 22 ms
    a photo instead of 13). The setting affects the whole process, so only the command line calls this; applications
    that embed the package may call it too. Without glibc (macOS, Windows, musl) it does nothing.

    It also makes torch allocate tensors of megabytes on pages of 2 MB, unless the environment disables that: a step of
    an int8 decoder of 153M took 45.6 ms instead of 48.0. Call this before the first tensor, when torch reads the
    variable.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, MOST)


def give_back_freed_memory() -> None:
    """Return freed memory to the system, once; do nothing without glibc.

    Loading repacks the weights for speed, and glibc keeps the memory of the first copy: 0.5 GB for a model of 153M.
    """
    trim = _glibc_function("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc_function(name: str) -> Any:
    """Return a function of glibc, or None on a system or C library without it."""
    if sys.platform != "linux":
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
