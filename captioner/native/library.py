"""The compiled library, where it may be used."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_int, c_int64, c_void_p
from pathlib import Path

import torch

from captioner.native.plans import LayerPlan, ProductPlan, StepPlan

FOLDER = Path(__file__).parent
NEVER, AVX512, TILES = 0, 1, 2  # what captioner_level() of src/library.c answers


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built, belongs to other sources, or this CPU cannot run it.

    Nor is it used beside an OpenMP that is not torch's: two sets of threads on the same cores wait for each other.
    """
    built = sorted(FOLDER.glob("_step*.so"), key=lambda path: path.stat().st_mtime)
    if not built:
        return None
    try:
        found = ctypes.CDLL(str(built[-1]))
        found.captioner_size.restype = c_int64
        sizes = [found.captioner_size(which) for which in range(3)]
        same = sizes == [ctypes.sizeof(plan) for plan in (ProductPlan, LayerPlan, StepPlan)]
        if not same or found.captioner_level() == NEVER or not _shares_threads(found):
            return None
        found.captioner_multiply.argtypes = [POINTER(ProductPlan), c_void_p, c_int64, c_void_p, c_int]
        found.captioner_step.argtypes = [POINTER(StepPlan), c_int]
        found.captioner_largest.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int]
        found.captioner_largest.restype = None
        found.captioner_sharpen.argtypes = [c_void_p, *[c_int64] * 3, c_void_p, c_void_p, c_int64, c_int]
        found.captioner_sharpen.restype = None
    except (OSError, AttributeError):
        return None
    return found


@functools.cache
def has_tiles() -> bool:
    """Whether this CPU has AMX, and this process may use it."""
    found = library()
    return found is not None and found.captioner_level() == TILES


def _shares_threads(found: ctypes.CDLL) -> bool:
    """Whether the threads of ``found`` are torch's: whether both have OpenMP from one file."""
    torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    own, other = (ctypes.cast(one.omp_get_max_threads, c_void_p).value for one in (found, torch_library))
    return own == other


def checked(failed: int) -> None:
    """Raise ``MemoryError`` where a call of the library says that there was none."""
    if failed:
        raise MemoryError("cannot allocate memory for a decoding step")
