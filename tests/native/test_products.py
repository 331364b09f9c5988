"""The library's products equal torch's, and a row does not depend on the others."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from captioner.errors import UsageError
from captioner.inference.linears import levels_of
from captioner.layers.quantization import quantized
from captioner.native import products
from captioner.native.library import levels, library
from captioner.native.plans import ACTIVATIONS, LEVELS
from captioner.native.products import NativeProduct

from .quantizing import activation_steps

pytestmark = pytest.mark.skipif(library() is None, reason="the library is not built, or this CPU cannot run it")
SHAPES = [(64, 48), (768, 50), (100, 33), (4, 1), (36, 16), (320, 97)]  # widths (in, out)


def product(layer: nn.Linear, precision: str) -> NativeProduct:
    if precision == "fp32":
        return NativeProduct(layer.weight, layer.bias)
    levels, scale = quantized(layer.weight)
    return NativeProduct(levels, layer.bias, scale=scale)


def wanted(layer: nn.Linear, precision: str, x: Tensor) -> Tensor:
    """Return the product in fp64, from the rounded weights and activations."""
    weight, x = layer.weight.double(), x
    if precision == "int8":
        levels, scale = quantized(layer.weight)
        weight = levels.double() * scale[:, None].double()
        if activation_steps() == 255:
            activations, step, least = levels_of(x)
        else:
            steps, least = float(activation_steps()), x.amin(1, keepdim=True)
            span = x.amax(1, keepdim=True) - least
            activations, step = ((x - least) * (steps / (span + 1e-8))).round(), span / steps
        x = activations.double() * step + least
    found = x.double() @ weight.T
    return found if layer.bias is None else found + layer.bias.double()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_product_of_any_number_of_rows(precision: str, shape: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(*shape, bias=bias).requires_grad_(False)
    native = product(layer, precision)
    for rows in (1, 2, 3, 5, 7, 8, 9, 17, 33, 49, 100):
        x = torch.randn(rows, shape[0]) * torch.logspace(-3, 3, rows)[:, None]
        found = native(x)
        tolerance = (1e-5 if activation_steps() == 255 else 4e-5) * (x.abs().amax(1, keepdim=True) + 1)
        assert found.shape == (rows, shape[1])
        assert ((found.double() - wanted(layer, precision, x)).abs() <= tolerance).all()
        for row in {0, rows // 2, rows - 1}:
            assert torch.equal(native(x[row : row + 1]), found[row : row + 1])


@pytest.mark.parametrize("name", levels())
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_levels_agree(name: str, precision: str, activation: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All levels with FMA give the same bits in fp32, and all with 256 levels of activations in int8."""
    torch.manual_seed(0)
    layer = nn.Linear(200, 70).requires_grad_(False)
    native, x = product(layer, precision), torch.randn(60, 200) * 3
    monkeypatch.setattr(products, "level", lambda: LEVELS.index(levels()[-1]))
    highest = native(x, activation)
    monkeypatch.setattr(products, "level", lambda: LEVELS.index(name))
    found = native(x, activation)
    if name not in (("sse42",) if precision == "fp32" else ("sse42", "avx2")):
        assert torch.equal(found, highest)
    torch.testing.assert_close(found, highest, atol=1e-5 if precision == "fp32" else 0.2, rtol=1e-5)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    functions = {"gelu": nn.functional.gelu, "relu": nn.functional.relu, None: lambda y: y}
    functions["gelu_tanh"] = lambda y: nn.functional.gelu(y, approximate="tanh")
    torch.testing.assert_close(
        found, functions[activation](plain), atol=1e-5 if precision == "fp32" else 0.2, rtol=1e-5
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_may_lie_anywhere(precision: str) -> None:
    layer = nn.Linear(64, 20).requires_grad_(False)
    native, x = product(layer, precision), torch.randn(6, 4, 2, 64)
    assert torch.equal(native(x[:, :, 1]), native(x[:, :, 1].contiguous()))
    assert torch.equal(copy.deepcopy(native)(x), native(x))
    assert native(x[:0]).shape == (0, 4, 2, 20)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_rows_are_one_sentence(precision: str) -> None:
    native = product(nn.Linear(64, 20).requires_grad_(False), precision)
    for x in (torch.randn(3, 63), torch.randn(3, 64).half(), torch.randn(3, 64, device="meta")):
        with pytest.raises(UsageError, match="cannot run"):
            native(x)


def test_rows_of_one_value_and_of_none() -> None:
    native = product(nn.Linear(64, 20).requires_grad_(False), "int8")
    x = torch.zeros(4, 64)
    x[1] = 3.0
    x[2, 5] = torch.nan
    found = native(x)
    assert found[[0, 1, 3]].isfinite().all()
    assert torch.equal(found[0], found[3])
    assert found[2].isnan().all()
