"""Quantized weights stay within their bounds, and their packed forms are exact."""

from __future__ import annotations

import pytest
import torch

from captioner.layers.quantization import (
    dequantized,
    nibbles,
    of_nibbles,
    quantized,
    quantized_in_groups,
)


def weights(rows: int = 24, columns: int = 64, *, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_int8_is_off_by_half_a_level_at_most(scale: float) -> None:
    weight = weights(scale=scale)
    levels, step = quantized(weight)
    assert levels.abs().max() == 127
    assert ((dequantized(levels, step) - weight).abs() <= step[:, None] * 0.5001).all()


def test_int8_rounds_its_own_values_to_themselves() -> None:
    """A file of int8 weights that int8 inference packs again is rounded once, not twice."""
    levels, step = quantized(weights())
    again, same = quantized(dequantized(levels, step))
    assert torch.equal(again, levels)
    torch.testing.assert_close(same, step, rtol=1e-6, atol=0)


@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_groups_are_no_worse_than_plain_rounding(group: int, scale: float) -> None:
    weight = weights(scale=scale)
    levels, scales = quantized_in_groups(weight, group)
    assert levels.min() >= -8
    assert levels.max() <= 7
    assert scales.shape == (24, 64 // group)
    error = (dequantized(levels, scales) - weight).unflatten(1, (-1, group))
    step = weight.unflatten(1, (-1, group)).abs().amax(-1) / 7
    plain = ((weight.unflatten(1, (-1, group)) / step[..., None]).round() * step[..., None]).flatten(1) - weight
    bound = plain.unflatten(1, (-1, group)).square().sum(-1)
    assert (error.square().sum(-1) <= bound * 1.01).all()
    assert error.square().mean() < 0.95 * plain.square().mean(), "the search for a scale helps"


def test_zeros_and_tiny_values_stay_finite() -> None:
    weight = torch.zeros(2, 32)
    weight[1] = 1e-12
    for levels, scale in (quantized(weight), quantized_in_groups(weight)):
        back = dequantized(levels, scale)
        assert back.isfinite().all()
        assert (back - weight).abs().max() < 1e-6


def test_two_levels_share_a_byte() -> None:
    levels = torch.arange(-8, 8, dtype=torch.int8).view(1, 16)
    packed = nibbles(levels)
    assert packed.shape == (1, 8)
    assert packed.dtype == torch.uint8
    assert torch.equal(of_nibbles(packed), levels)
