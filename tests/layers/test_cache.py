"""The KV cache: its order, and the part that each branch of a caption sees."""

from __future__ import annotations

import pytest
import torch

from captioner.layers.cache import DecoderCache, empty_cache


def test_append_returns_past_and_present() -> None:
    cache = empty_cache(2, 5, (1, 3, 4), torch.zeros(0, dtype=torch.float64))
    parts = [torch.randn(2, 3, words, 4, dtype=torch.float64) for words in (1, 3, 1)]
    for count in range(1, 4):
        keys, values = cache.layers[0].append(parts[count - 1], -parts[count - 1])
        assert torch.equal(keys, torch.cat(parts[:count], dim=2))
        assert torch.equal(values, -keys)


def step(cache: DecoderCache, tokens: int, window: int | None = None) -> tuple[torch.Tensor | None, ...]:
    """Return the masks of one step, then fill its slots."""
    masks = cache.reserve(tokens, window=window)
    for layer in cache.layers:
        slots = torch.zeros(cache.images, 1, cache.captions * tokens, 1)
        layer.append(slots, slots)
    return masks


@pytest.mark.parametrize("window", [None, 2, 3])
def test_a_caption_sees_its_own_past_and_nothing_else(window: int | None) -> None:
    """The masks equal a list of slots per caption, kept by hand."""
    generator = torch.Generator().manual_seed(0)
    images, slots = 2, 0
    cache = empty_cache(images, 100, (2, 1, 1), torch.zeros(0))
    pasts: list[list[list[int]]] = [[[]] for _ in range(images)]
    for captions, tokens in ((1, 2), (3, 1), (3, 2), (2, 1), (4, 1), (4, 3)):
        parents = torch.randint(0, len(pasts[0]), (images, captions), generator=generator)
        cache.fork(parents)
        pasts = [[list(pasts[b][p]) for p in parents[b].tolist()] for b in range(images)]
        everything, nearby = step(cache, tokens, window)
        total = slots + captions * tokens
        for b in range(images):
            for k in range(captions):
                for t in range(tokens):
                    pasts[b][k].append(slots + k * tokens + t)
                    for mask, seen in ((everything, pasts[b][k]), (nearby, pasts[b][k][-window:] if window else None)):
                        if seen is not None:
                            row = (
                                torch.ones(total)
                                if mask is None
                                else mask.expand(images, 1, -1, -1)[b, 0, k * tokens + t]
                            )
                            assert row.nonzero().flatten().tolist() == seen
        slots = total


def test_one_caption_an_image_hides_nothing() -> None:
    cache = empty_cache(3, 9, (1, 1, 1), torch.zeros(0))
    step(cache, 4)
    cache.fork(torch.zeros(3, 1, dtype=torch.long))
    assert step(cache, 1) == (None, None)
    assert cache.words == 5


def test_images_that_end_leave_every_layer() -> None:
    cache = empty_cache(3, 4, (2, 1, 1), torch.zeros(0))
    cache.reserve(1)
    for layer in cache.layers:
        layer.append(torch.arange(3.0)[:, None, None, None], -torch.arange(3.0)[:, None, None, None])
    cache.fork(torch.zeros(3, 2, dtype=torch.long))
    cache.keep(torch.tensor([2, 0]))
    assert cache.images == 2
    assert cache.visible is not None
    assert cache.visible.shape == (2, 2, 1)
    for layer in cache.layers:
        assert layer.keys[:, 0, 0, 0].tolist() == [2, 0]
        assert layer.values[:, 0, 0, 0].tolist() == [-2, 0]


@pytest.mark.parametrize("window", [None, 2, 9])
def test_a_tree_of_words_sees_its_branches(window: int | None) -> None:
    """Two captions of three words in alternating slots continue: one by two words, the other by one."""
    cache = empty_cache(1, 20, (1, 1, 1), torch.zeros(0))
    for _ in range(3):
        cache.fork(torch.tensor([[0, 0 if cache.words == 0 else 1]]))
        step(cache, 1)
    pasts = [[0, 2, 4], [1, 3, 5]]
    seen = [[*pasts[0], 6], [*pasts[1], 7], [*pasts[0], 6, 8]]
    visible = torch.zeros(1, 3, 9, dtype=torch.bool)
    for row, slots in enumerate(seen):
        visible[0, row, slots] = True
    cache.words = 5
    everything, nearby = cache.reserve_tree(visible, torch.tensor([3, 3, 4]), window=window)
    for row, slots in enumerate(seen):
        assert everything[0, 0, row].nonzero().flatten().tolist() == slots
        assert nearby[0, 0, row].nonzero().flatten().tolist() == slots[-(window or 9) :]
    assert (nearby is everything) == (window != 2)
    cache.cut(4)
    assert cache.layers[0].length == cache.visible.shape[2] == 4
