"""A packed layer equals its original, row by row, within its precision."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from captioner.inference import linears
from captioner.inference.linears import SHORTLIST, PackedHead, PackedLinear, Precision, has_product
from captioner.layers.quantization import quantized
from captioner.native.library import library

from ..native.quantizing import activation_steps

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
ERROR = {"fp32": 1e-6, "bf16": 6e-3, "int8": 1.5e-2}  # share of the output's standard deviation


@pytest.fixture(params=["native", "packed", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the compiled products, those of torch on this machine, or the plain ones."""
    if request.param == "native" and library() is None:
        pytest.skip("the library is not built, or this CPU cannot run it")
    if request.param != "native":
        monkeypatch.setattr(linears, "library", lambda: None)
    if request.param == "plain":
        monkeypatch.setattr(linears, "has_product", lambda precision: False)
    return request.param


def make(inputs: int = 96, outputs: int = 40, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight *= torch.logspace(-2, 1, outputs)[:, None]  # rows of very different size
    return layer.requires_grad_(False)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(96,), (1, 96), (3, 1, 96), (2, 33, 96), (0, 96)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_what_the_layer_computes(precision: Precision, shape: tuple[int, ...], bias: bool) -> None:
    layer = make(bias=bias)
    x = torch.randn(shape) * torch.logspace(-3, 3, max(1, shape[0]))[: shape[0]].view(-1, *[1] * (len(shape) - 1))
    if len(shape) == 1:
        x = torch.randn(shape)
    packed, wanted = PackedLinear(layer, precision), layer(x)
    found = packed(x)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    size = x.square().mean(-1, keepdim=True).sqrt() * layer.weight.square().sum(-1).sqrt()  # each value's own deviation
    tolerance = 5 * ERROR[precision] * (size + (0 if layer.bias is None else layer.bias.abs()))
    assert ((found - wanted).abs() <= tolerance).all()
    assert (packed.in_features, packed.out_features) == (96, 40)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_plain_and_packed_agree(
    precision: Precision, bias: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain product has the real precision, not fp32."""
    layer, x = make(200, 64, bias=bias), torch.randn(31, 200)
    if not compiled:
        monkeypatch.setattr(linears, "library", lambda: None)
    packed = PackedLinear(layer, precision)
    if not packed.packed:
        pytest.skip(f"this machine has no {precision} product")
    monkeypatch.setattr(linears, "library", lambda: None)
    monkeypatch.setattr(linears, "has_product", lambda precision: False)
    plain = PackedLinear(layer, precision)
    assert not plain.packed
    same = not compiled or activation_steps() == 255
    near = {"fp32": 1e-5, "bf16": 1e-2, "int8": 1e-5 if same else 6e-2}[
        precision
    ]  # bf16 rounds what comes out: up to one step apart
    size = x.square().mean(-1, keepdim=True).sqrt() * layer.weight.square().sum(-1).sqrt()
    assert ((packed(x) - plain(x)).abs() <= near * (size + 1)).all()
    if precision != "fp32":
        assert not torch.allclose(packed(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_does_not_depend_on_its_company(precision: Precision) -> None:
    """Not even on a neighbour whose values are a thousand times larger."""
    packed, row = PackedLinear(make(384, 50), precision), torch.randn(1, 384)
    alone = packed(row)
    for count in (2, 5, 40):
        company = torch.cat([torch.randn(count - 1, 384) * 1000, row])
        # Sums of another order differ in their last bit, and a bf16 result near a half may then round the other way.
        # Whole numbers add up to the same in any order.
        near = 0.0 if precision == "int8" and packed.packed else {"fp32": 1e-5, "bf16": 2**-7, "int8": 1e-5}[precision]
        torch.testing.assert_close(packed(company)[-1:], alone, rtol=near, atol=near)


def test_int8_is_the_arithmetic_on_paper(kernels: str) -> None:
    """Zero rows, extreme rows and a zero weight row are included."""
    layer = make(64, 16)
    layer.weight[3] = 0
    x = torch.randn(6, 64)
    x[1] = 0
    x[2] = 5.0
    x[3] = torch.tensor([5.0, -5.0]).repeat(32)
    x[4, 0] = 1e-30
    levels, scale = quantized(layer.weight)
    assert levels.abs().amax(1).tolist() == [127 if i != 3 else 0 for i in range(16)]
    least = x.amin(1, keepdim=True).double()
    step = (x.amax(1, keepdim=True) - least) / (activation_steps() if kernels == "native" else 255)
    activations = torch.where(step > 1e-9, (x.double() - least) / step, 0).round()
    wanted = ((activations * step + least) @ levels.double().T) * scale.double() + layer.bias.double()
    torch.testing.assert_close(PackedLinear(layer, "int8")(x).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_out_has_the_dtype_of_what_goes_in(precision: Precision, dtype: torch.dtype) -> None:
    layer, x = make(), torch.randn(4, 96).to(dtype)
    found = PackedLinear(layer, precision)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), layer(x.float()), rtol=0.1, atol=0.3)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_not_a_number_stays_none(precision: Precision) -> None:
    x = torch.randn(2, 96)
    x[0, 5] = torch.nan
    found = PackedLinear(make(), precision)(x)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_layer_it_was_made_from_is_let_go(precision: Precision) -> None:
    """Nothing keeps the old weights, so their memory is free."""
    layer = make()
    packed = PackedLinear(layer, precision)
    if not packed.packed:
        pytest.skip(f"this machine has no {precision} product")
    gone = weakref.ref(layer.weight)
    del layer
    gc.collect()
    assert gone() is None
    assert not list(packed.parameters())
    assert not packed.state_dict()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("words", [20, 500])
def test_the_likeliest_logits_of_a_head_are_exact_and_the_others_near(words: int) -> None:
    layer = make(96, words, bias=False)
    x = torch.randn(3, 1, 96)
    wanted, found = layer(x), PackedHead(layer)(x)
    exact = (found - wanted).abs() < 1e-4
    count = min(words, SHORTLIST)
    assert (exact.sum(-1) >= count).all()
    assert (found.topk(count // 2).indices == wanted.topk(count // 2).indices).all()
    torch.testing.assert_close(found, PackedLinear(layer, "int8")(x), rtol=0.05, atol=0.1 * float(wanted.std()))
    if words > SHORTLIST:
        assert not exact.all()
    torch.testing.assert_close(PackedHead(layer)(x[1]), found[1])  # a row does not depend on its company


def test_a_head_shares_the_weights_it_was_made_from() -> None:
    layer = make(96, 500, bias=False)
    head = PackedHead(layer)
    assert not list(head.parameters())
    assert not head.state_dict()
    layer.weight.zero_()
    assert (head(torch.randn(2, 96)) == 0).sum() == 2 * SHORTLIST


def test_a_product_that_overflows_or_is_missing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(weight: torch.Tensor, bias: torch.Tensor | None) -> linears.Product:
        raise AttributeError("no such operator")

    def overflowing(weight: torch.Tensor, bias: torch.Tensor | None) -> linears.Product:
        return lambda rows: torch.full((len(rows), len(weight)), 32767.0 * 32)

    monkeypatch.setattr(linears, "library", lambda: None)
    for broken in (missing, overflowing):
        monkeypatch.setitem(linears._PACKED, "int8", broken)
        has_product.cache_clear()
        try:
            assert not has_product("int8")
            assert not PackedLinear(make(), "int8").packed
        finally:
            has_product.cache_clear()


def test_only_a_cpu_has_packed_products() -> None:
    layer = nn.Linear(8, 8, device="meta")
    packed = PackedLinear(layer, "fp32")
    assert not packed.packed
    assert packed(torch.zeros(2, 8, device="meta")).shape == (2, 8)


def test_a_row_of_long_inputs_does_not_depend_on_its_company_in_bf16() -> None:
    """oneDNN adds 48 to 320 rows of 1536 in another order than a few rows."""
    torch.manual_seed(0)
    layer = PackedLinear(nn.Linear(1536, 384), "bf16")
    rows = torch.randn(165, 1536)
    together = layer(rows)
    for count in (1, 5, 33, 80):
        assert torch.equal(layer(rows[:count]), together[:count])
