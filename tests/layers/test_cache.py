"""The past is kept in order, and rows can be dropped, doubled and reordered."""

from __future__ import annotations

import torch

from captioner.layers.cache import empty_cache


def test_append_returns_past_and_present() -> None:
    cache = empty_cache(2, 5, (1, 3, 4), torch.zeros(0, dtype=torch.float64))
    parts = [torch.randn(2, 3, words, 4, dtype=torch.float64) for words in (1, 3, 1)]
    seen = 0
    for part in parts:
        keys, values = cache.layers[0].append(part, -part)
        seen += part.shape[2]
        assert cache.length == seen
        assert torch.equal(keys, torch.cat(parts, dim=2)[:, :, :seen])
        assert torch.equal(values, -keys)


def test_select_reorders_every_layer() -> None:
    cache = empty_cache(3, 2, (2, 1, 1), torch.zeros(0))
    for layer in cache.layers:
        layer.append(torch.arange(3.0)[:, None, None, None], -torch.arange(3.0)[:, None, None, None])
    cache.select(torch.tensor([2, 0, 2, 1]))
    for layer in cache.layers:
        keys, values = layer.append(torch.full((4, 1, 1, 1), 9.0), torch.full((4, 1, 1, 1), 9.0))
        assert keys.flatten(1).tolist() == [[2, 9], [0, 9], [2, 9], [1, 9]]
        assert values.flatten(1).tolist() == [[-2, 9], [0, 9], [-2, 9], [-1, 9]]
