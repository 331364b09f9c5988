"""The structs of ``src/plan.h`` as ctypes, field by field."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_int64, c_void_p

LEVELS = ("torch", "sse42", "avx2", "avx2-vnni", "avx512", "amx", "neon")  # enum level
ACTIVATIONS = ("gelu_tanh", "gelu", "relu")  # enum activation


class ProductPlan(Structure):
    _fields_ = (
        ("inputs", c_int64),
        ("outputs", c_int64),
        ("bias", c_void_p),
        ("weight", c_void_p),
        ("levels", c_void_p),
        ("scale", c_void_p),
        ("totals", c_void_p),
    )


class NormPlan(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class LayerPlan(Structure):
    _fields_ = (
        ("self_norm", NormPlan),
        ("cross_norm", NormPlan),
        ("mlp_norm", NormPlan),
        *((name, POINTER(ProductPlan)) for name in ("qkv", "self_gate", "self_out")),
        *((name, POINTER(ProductPlan)) for name in ("q", "cross_gate", "point", "spread", "cross_out")),
        *((name, POINTER(ProductPlan)) for name in ("fc1", "fc2")),
        ("self_kind", c_int64),
        ("cross_kind", c_int64),
        ("cross_factor", c_float),
        ("eps", c_float),
    )


class MaskPlan(Structure):
    _fields_ = (("bytes", c_void_p), ("image_stride", c_int64), ("query_stride", c_int64))


class GridPlan(Structure):
    _fields_ = (("rows", c_void_p), ("columns", c_void_p), ("before", c_int64))


class PairPlan(Structure):
    """Keys and values, as in ``struct memory`` and ``struct cache``."""

    _fields_ = (("keys", c_void_p), ("values", c_void_p))


class StepPlan(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("images", "queries", "width", "heads", "heads_width", "hidden", "layer_count")),
        *((name, c_int64) for name in ("past", "capacity", "patches", "post_norm", "activation", "level")),
        ("layers", POINTER(LayerPlan)),
        ("caches", POINTER(PairPlan)),
        ("memories", POINTER(PairPlan)),
        ("halves", c_int64),
        ("rows", c_void_p),
        ("grid", GridPlan),
        ("global_mask", MaskPlan),
        ("local_mask", MaskPlan),
        ("x", c_void_p),
    )
