"""Linear layers for inference on a CPU: weights packed once for the fastest available product, in three precisions.

Decoding reads every weight once per token and is limited by memory bandwidth: bf16 halves the bytes, int8 quarters
them. torch's own ``linear`` does not reach that limit with a few rows in fp32. The products are this package's own
(``captioner/native``), if they were built, or those that ``torch.compile`` selects (oneDNN), called directly.

=========  =====================  ====================================  ================
precision  weights                activations inside the product         output
=========  =====================  ====================================  ================
fp32       fp32                   fp32                                   fp32
bf16       bf16                   bf16                                   rounded to bf16
int8       int8, a scale per row  uint8, a step per row (token, patch)   fp32
=========  =====================  ====================================  ================

Each row has its own quantization step: a step for the whole batch would make a caption depend on the other images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.inference.precision import Precision
from captioner.layers.quantization import quantized
from captioner.native.choice import sharpen
from captioner.native.library import library
from captioner.native.products import NativeProduct

Product = Callable[[Tensor], Tensor]  # (..., rows, in) -> (..., rows, out), both fp32
SHORTLIST = 32
PIECE, WHOLE = 32, 512  # between these numbers of rows oneDNN sums bf16 in another order than below or above
ROWS_IN_MIND = 8  # oneDNN packs weights for an expected number of rows; 1 to 400 measured the same


class PackedLinear(nn.Module):
    """A faster ``linear``, (..., in) -> (..., out), in the given precision, for inputs of any dtype.

    It has no parameters: it cannot be trained, saved or moved to another device. Without a fast product (devices other
    than x86 CPUs, older CPUs in int8) it computes the same in plain torch, at torch's own speed.

        layer = PackedLinear(nn.Linear(768, 3072), "int8")
        y = layer(x)  # (..., 768) -> (..., 3072)
    """

    def __init__(self, linear: nn.Linear, precision: Precision) -> None:
        super().__init__()
        self.in_features, self.out_features, self.precision = linear.in_features, linear.out_features, precision
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach().float()
        on_cpu = weight.device.type == "cpu"
        native = on_cpu and precision in _NATIVE and library() is not None
        self.packed = native or (on_cpu and has_product(precision))
        make = _NATIVE if native else _PACKED if self.packed else _PLAIN
        self._product = make[precision](weight, bias)

    @property
    def native(self) -> NativeProduct | None:
        """The product that a native decoding step reads; None if this layer uses another."""
        return self._product if isinstance(self._product, NativeProduct) else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output (..., out) for ``x`` (..., in), in the dtype of ``x``."""
        if x.dtype == torch.float32 and x.ndim > 1:
            return self._product(x)
        return self._product(x.float().reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features).to(x.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, precision={self.precision}"


class PackedHead(nn.Module):
    """A layer of logits, (..., in) -> (..., V): all in int8, the ``SHORTLIST`` largest again in fp32.

    The logits that matter are exact, and a step reads a quarter of the bytes of the largest weight matrix. The rows of
    the shortlist are read from the weights of ``linear``, which stay shared with the token embedding.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.precision = linear.in_features, linear.out_features, "int8"
        self._rough = PackedLinear(linear, "int8")
        self._weight = (linear.weight.detach(),)  # in a tuple, so that it is not registered
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of ``x`` (..., in), in the dtype of ``x``."""
        rows = x.reshape(-1, self.in_features)  # (N, in)
        logits = self._rough(rows)  # (N, V)
        if self._rough.native is not None and self._weight[0].dtype == rows.dtype == torch.float32:
            sharpen(logits, rows.contiguous(), self._weight[0], self._bias, min(SHORTLIST, self.out_features))
            return logits.view(*x.shape[:-1], self.out_features)
        words = logits.topk(min(SHORTLIST, self.out_features), dim=1, sorted=False).indices  # (N, SHORTLIST)
        weights = F.embedding(words, self._weight[0])  # (N, SHORTLIST, in)
        exact = (weights @ rows[..., None].to(weights.dtype)).squeeze(-1)  # (N, SHORTLIST)
        if self._bias is not None:
            exact = exact + self._bias[words]
        return logits.scatter_(1, words, exact.to(logits.dtype)).view(*x.shape[:-1], self.out_features)


@functools.cache
def has_product(precision: Precision) -> bool:
    """Return whether this CPU and torch have a correct product of that precision.

    A test run decides, since CPUs without VNNI have an int8 product whose sums silently overflow at the extremes. The
    test uses whole numbers, which bf16 represents exactly.
    """
    if precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    linear = nn.Linear(64, 32, dtype=torch.float32)
    try:
        with torch.no_grad():
            linear.weight.fill_(127.0)
            linear.bias.fill_(0.0)
            rows = torch.tensor([[127.0], [-127.0]]).repeat(1, 64)
            rows[:, 0] = 0  # so that int8 uses all of its levels
            actual = _PACKED[precision](linear.weight, linear.bias)(rows)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    expected = torch.tensor([[127.0], [-127.0]]) * 127 * 63
    return torch.allclose(actual, expected.expand_as(actual), rtol=2**-8)


@functools.cache
def multiplies_bf16() -> bool:
    """Return whether this CPU has instructions for bf16; without them a bf16 product is slower than one in fp32."""
    return has_product("bf16") and torch.cpu._is_avx512_bf16_supported()


def levels_of(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize ``rows`` (..., in) to uint8 levels, step and minimum (..., 1): rows = ``levels * step + least``.

    It uses one operator made for embedding tables; in plain operators the same took 85 us of 150 (40 x 3072).
    """
    packed = torch.ops.quantized.embedding_bag_byte_prepack.default(rows)  # (..., in + 8)
    step, least = packed[..., -8:].view(torch.float32).split(1, dim=-1)
    # The operator ignores NaN; a sum propagates it.
    return packed[..., :-8].contiguous(), step, torch.add(least, rows.sum(dim=-1, keepdim=True), alpha=0)


def _packed_fp32(weight: Tensor, bias: Tensor | None) -> Product:
    product = torch.ops.mkldnn._linear_pointwise.default
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.float().contiguous(), ROWS_IN_MIND)
    return lambda rows: product(rows, packed, bias, "none", [], "")


class BF16Product:
    """A product in bf16, (..., in) -> (..., out), fp32 in and out; ``narrow`` keeps bf16.

    Without ``pack``, torch's own product: with hundreds of rows it is faster for a layer with no more outputs than
    inputs (577 x 3072 to 768, with AMX: 1.7 ms instead of 2.7; 768 to 3072: 1.6 instead of 1.2).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, pack: bool = True) -> None:
        weight = weight.bfloat16().contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_IN_MIND) if pack else weight
        self._packed = pack
        self._bias = None if bias is None else bias.bfloat16()

    def __call__(self, rows: Tensor) -> Tensor:
        return self.narrow(rows.bfloat16()).float()

    def narrow(self, rows: Tensor, activation: Literal["gelu"] | None = None) -> Tensor:
        """Multiply bf16 ``rows`` in pieces if a row's bits would otherwise depend on the number of rows."""
        if not PIECE < rows.numel() // rows.shape[-1] <= WHOLE:
            return self._multiply(rows, activation)
        pieces = rows.reshape(-1, rows.shape[-1]).split(PIECE)
        out = torch.cat([self._multiply(piece, activation) for piece in pieces])
        return out.view(*rows.shape[:-1], out.shape[-1])

    def __deepcopy__(self, memo: dict[int, Any]) -> BF16Product:
        return self  # immutable

    def _multiply(self, rows: Tensor, activation: str | None) -> Tensor:
        if not self._packed:
            out = F.linear(rows, self._weight, self._bias)
            return F.gelu(out) if activation == "gelu" else out
        product = torch.ops.mkldnn._linear_pointwise.default
        algorithm = "none" if activation == "gelu" else ""  # GELU by erf
        packed: Tensor = product(rows, self._weight, self._bias, activation or "none", [], algorithm)
        return packed


def _packed_int8(weight: Tensor, bias: Tensor | None) -> Product:
    product = torch.ops.onednn.qlinear_pointwise.default
    quantized_weight, scale = quantized(weight)
    packed = torch.ops.onednn.qlinear_prepack(quantized_weight, None)
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    totals = quantized_weight.sum(dim=1) * scale
    constant = torch.zeros(()) if bias is None else bias

    def multiply(rows: Tensor) -> Tensor:
        levels, step, least = levels_of(rows)
        sums = product(levels, 1.0, 0, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        return torch.addcmul(constant, totals, least).addcmul_(sums, step)

    return multiply


def _plain_fp32(weight: Tensor, bias: Tensor | None) -> Product:
    weight = weight.float()
    return lambda rows: F.linear(rows, weight, bias)


def _plain_bf16(weight: Tensor, bias: Tensor | None) -> Product:
    weight = weight.bfloat16()
    rounded = None if bias is None else bias.bfloat16()
    return lambda rows: F.linear(rows.bfloat16(), weight, rounded).float()


def _plain_int8(weight: Tensor, bias: Tensor | None) -> Product:
    quantized_weight, scale = quantized(weight)
    rounded = quantized_weight.float() * scale[:, None]

    def multiply(rows: Tensor) -> Tensor:
        levels, step, least = levels_of(rows)
        return F.linear(levels * step + least, rounded, bias)

    return multiply


def native_int8(weight: Tensor, bias: Tensor | None) -> NativeProduct:
    """Return the library's int8 product by ``weight`` (out, in), fp32, and ``bias`` (out,)."""
    levels, scale = quantized(weight)
    return NativeProduct(levels, bias, scale=scale)


_NATIVE: dict[Precision, Callable[[Tensor, Tensor | None], Product]] = {"fp32": NativeProduct, "int8": native_int8}
_PACKED: dict[Precision, Callable[[Tensor, Tensor | None], Product]] = {
    "fp32": _packed_fp32,
    "bf16": BF16Product,
    "int8": _packed_int8,
}
_PLAIN: dict[Precision, Callable[[Tensor, Tensor | None], Product]] = {
    "fp32": _plain_fp32,
    "bf16": _plain_bf16,
    "int8": _plain_int8,
}
