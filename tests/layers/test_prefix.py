"""A learned prefix stands before the words, and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from captioner.layers.attention import SelfAttention, causal_mask
from captioner.layers.prefix import Prefix


def test_it_stands_before_the_words_of_every_sequence() -> None:
    prefix = Prefix(2, 3, 4)
    k, v = torch.randn(5, 2, 6, 4), torch.randn(5, 2, 6, 4)
    keys, values = prefix.prepend(k, v)
    assert keys.shape == values.shape == (5, 2, 9, 4)
    assert torch.equal(keys[:, :, 3:], k)
    assert torch.equal(values[:, :, 3:], v)
    for n in range(5):
        assert torch.equal(keys[n, :, :3], prefix.keys)
        assert torch.equal(values[n, :, :3], prefix.values)


@pytest.mark.parametrize("kind", ["G", "L", "M"])
def test_its_weight_is_a_softmax_with_the_words(kind: str) -> None:
    """The reference is exp(q k) of prefix and words over their common sum, head by head."""
    torch.manual_seed(0)
    layer = SelfAttention(8, 2, kind, prefix=3)
    x, window = torch.randn(1, 5, 8), 2
    causal = [causal_mask(5, window=w, device=x.device) for w in (None, window)]
    masks = tuple(torch.cat([torch.ones(5, 3, dtype=torch.bool), mask], dim=1) for mask in causal)
    q, k, v = (part.view(5, 2, 4) for part in layer.qkv_proj(x)[0].chunk(3, dim=-1))
    read = torch.zeros(2, 5, 2, 4)
    assert layer.prefix is not None
    for place, width in enumerate((None, window)):
        for t in range(5):
            first = 0 if width is None else max(0, t - width + 1)
            for head in range(2):
                keys = torch.cat([layer.prefix.keys[head], k[first : t + 1, head]])
                values = torch.cat([layer.prefix.values[head], v[first : t + 1, head]])
                weights = torch.exp(keys @ q[t, head] / 2)
                read[place, t, head] = weights @ values / weights.sum()
    gate = torch.sigmoid(layer.read.gate(x))[0, :, :, None] if kind == "M" else float(kind == "G")
    expected = layer.out_proj((gate * read[0] + (1 - gate) * read[1]).flatten(1))
    torch.testing.assert_close(layer(x, masks)[0], expected, atol=1e-6, rtol=1e-5)


def test_it_is_of_its_layers_kind() -> None:
    layer = SelfAttention(8, 2, "G").double()
    layer.add_prefix(2)
    assert layer.prefix is not None
    assert layer.prefix.keys.dtype == torch.float64
