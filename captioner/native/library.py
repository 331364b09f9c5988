"""The compiled library, if it can be used."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from ctypes import POINTER, c_int, c_int64, c_void_p
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from captioner.native.plans import LEVELS, LayerPlan, ProductPlan, StepPlan

FOLDER = Path(__file__).parent
VARIABLE = "CAPTIONER_CPU_LEVEL"


@dataclass(frozen=True, kw_only=True)
class NativeStatus:
    """The state of the library.

    level: The level in use, one of ``LEVELS``; None if torch operators are used instead.
    reason: Why there is no level or no higher one; empty if the highest level that the library has is in use.
    path: The library's file; None if it was not built.
    """

    level: str | None
    reason: str
    path: Path | None


def library() -> ctypes.CDLL | None:
    """Return the library; None if it was not built, was built from other sources, or this CPU cannot run it."""
    return _loaded()[0]


def status() -> NativeStatus:
    """Return which level the library uses, and why."""
    return _loaded()[1]


def level() -> int:
    """Return the level in use as a number of ``enum level`` in ``src/plan.h``; 0 without the library."""
    return LEVELS.index(status().level or "torch")


def levels() -> tuple[str, ...]:
    """Return the levels that this CPU and the library support, lowest first; without "torch"."""
    compiled, _ = _open()
    return () if compiled is None else _supported(compiled)


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, NativeStatus]:
    """Load the library at the highest level, or at the one that ``CAPTIONER_CPU_LEVEL`` names."""
    compiled, found = _open()
    if compiled is None:
        return None, found
    supported, named = _supported(compiled), os.environ.get(VARIABLE, "").strip().lower()
    if named == "torch":
        return None, replace(found, reason=f"{VARIABLE} is torch")
    if not supported:
        return None, replace(found, reason="the library supports no level of this CPU")
    if not named:
        return compiled, replace(found, level=supported[-1])
    if named in supported:
        return compiled, replace(found, level=named, reason=f"{VARIABLE} is {named}")
    reason = f"{VARIABLE} is {named!r}, not one of {', '.join(('torch', *supported))}"
    return compiled, replace(found, level=supported[-1], reason=reason)


def _open() -> tuple[ctypes.CDLL | None, NativeStatus]:
    """Open the newest file. It must share torch's OpenMP: two thread pools on the same cores wait for each other."""
    built = sorted(FOLDER.glob("_step*.pyd" if sys.platform == "win32" else "_step*.so"), key=_age)
    if not built:
        return None, NativeStatus(level=None, reason="the library was not built", path=None)
    found = NativeStatus(level=None, reason="", path=built[-1])
    try:
        compiled = ctypes.CDLL(str(built[-1]))
        _declare(compiled)
        sizes = [compiled.captioner_size(which) for which in range(3)]
        shared = _shares_threads(compiled)
    except (OSError, AttributeError) as error:
        return None, replace(found, reason=f"the library cannot be loaded: {error}")
    if sizes != [ctypes.sizeof(plan) for plan in (ProductPlan, LayerPlan, StepPlan)]:
        return None, replace(found, reason="the library was built from other sources")
    if not shared:
        return None, replace(found, reason="the library and torch use different OpenMP libraries")
    return compiled, found


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _declare(compiled: ctypes.CDLL) -> None:
    compiled.captioner_size.restype = c_int64
    compiled.captioner_multiply.argtypes = [POINTER(ProductPlan), c_void_p, c_int64, c_void_p, c_int64, c_int64, c_int]
    compiled.captioner_step.argtypes = [POINTER(StepPlan), c_int]
    compiled.captioner_largest.argtypes = [c_void_p, *[c_int64] * 3, *[c_void_p] * 2, c_int64, c_int]
    compiled.captioner_largest.restype = None
    compiled.captioner_sharpen.argtypes = [c_void_p, *[c_int64] * 3, *[c_void_p] * 3, *[c_int64] * 2, c_int]
    compiled.captioner_sharpen.restype = None


def _supported(compiled: ctypes.CDLL) -> tuple[str, ...]:
    return tuple(name for number, name in enumerate(LEVELS) if number and compiled.captioner_supports(number))


def _shares_threads(compiled: ctypes.CDLL) -> bool:
    """Return whether ``compiled`` and torch use the same OpenMP library."""
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
    torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
    own, other = (ctypes.cast(lib.omp_get_max_threads, c_void_p).value for lib in (compiled, torch_library))
    return own == other


def checked(failed: int) -> None:
    """Raise ``MemoryError`` if a library call reports failed allocation."""
    if failed:
        raise MemoryError("cannot allocate memory for a decoding step")
