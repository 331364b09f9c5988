"""The compiled library, if it can be used."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_int, c_int64, c_void_p
from pathlib import Path

import torch

from captioner.native.plans import LayerPlan, ProductPlan, StepPlan

FOLDER = Path(__file__).parent
NEVER, AVX512, TILES = 0, 1, 2  # results of captioner_level() in src/library.c


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the library; None if it was not built, was built from other sources, or this CPU cannot run it.

    It must share torch's OpenMP: two thread pools on the same cores wait for each other.
    """
    built = sorted(FOLDER.glob("_step*.so"), key=lambda path: path.stat().st_mtime)
    if not built:
        return None
    try:
        compiled = ctypes.CDLL(str(built[-1]))
        compiled.captioner_size.restype = c_int64
        sizes = [compiled.captioner_size(which) for which in range(3)]
        same = sizes == [ctypes.sizeof(plan) for plan in (ProductPlan, LayerPlan, StepPlan)]
        if not same or compiled.captioner_level() == NEVER or not _shares_threads(compiled):
            return None
        compiled.captioner_multiply.argtypes = [POINTER(ProductPlan), c_void_p, c_int64, c_void_p, c_int]
        compiled.captioner_step.argtypes = [POINTER(StepPlan), c_int]
        compiled.captioner_largest.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int]
        compiled.captioner_largest.restype = None
        compiled.captioner_sharpen.argtypes = [c_void_p, *[c_int64] * 3, *[c_void_p] * 3, c_int64, c_int]
        compiled.captioner_sharpen.restype = None
    except (OSError, AttributeError):
        return None
    return compiled


@functools.cache
def has_tiles() -> bool:
    """Return whether this CPU has AMX and this process may use it."""
    compiled = library()
    return compiled is not None and compiled.captioner_level() == TILES


def _shares_threads(compiled: ctypes.CDLL) -> bool:
    """Return whether ``compiled`` and torch use the same OpenMP library."""
    torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    own, other = (ctypes.cast(lib.omp_get_max_threads, c_void_p).value for lib in (compiled, torch_library))
    return own == other


def checked(failed: int) -> None:
    """Raise ``MemoryError`` if a library call reports failed allocation."""
    if failed:
        raise MemoryError("cannot allocate memory for a decoding step")
