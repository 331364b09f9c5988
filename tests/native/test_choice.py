"""The largest numbers equal those of ``topk``; ties go to the first ones."""

from __future__ import annotations

import pytest
import torch

from captioner.errors import UsageError
from captioner.native import choice
from captioner.native.choice import MOST, largest, sharpen
from captioner.native.library import library

built = pytest.mark.skipif(library() is None, reason="the library is not built, or this CPU cannot run it")


@pytest.mark.parametrize("width", [1, 5, 16, 33, 1000, 5003])
@pytest.mark.parametrize("count", [1, 2, 10, 32, MOST, MOST + 1])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 7)])
def test_it_is_topk(width: int, count: int, shape: tuple[int, ...]) -> None:
    count = min(count, width)
    x = torch.randn(*shape, width, generator=torch.Generator().manual_seed(width))
    values, places = largest(x, count)
    wanted = x.topk(count, dim=-1)
    assert torch.equal(values, wanted.values)
    assert torch.equal(places, wanted.indices)
    assert torch.equal(largest(x.transpose(0, -1).contiguous().transpose(0, -1), count)[1], places)


@built
@pytest.mark.parametrize("order", ["rising", "falling"])
def test_of_equals_it_takes_the_first(order: str) -> None:
    x = torch.arange(200.0).floor_divide(7)
    x = x if order == "rising" else x.flip(0)
    values, places = largest(x, 20)
    wanted = sorted(range(200), key=lambda i: (-x[i].item(), i))[:20]
    assert places.tolist() == wanted
    assert values.tolist() == x[wanted].tolist()


@built
def test_words_that_are_ruled_out_fill_up_the_end() -> None:
    x = torch.full((2, 100), -torch.inf)
    x[0, 50], x[1, 99] = 1.0, 2.0
    values, places = largest(x, 8)
    assert places[:, 0].tolist() == [50, 99]
    assert (values[:, 1:] == -torch.inf).all()
    assert all(len(set(row)) == 8 for row in places.tolist())


@built
@pytest.mark.parametrize("width", [16, 40, 96])
@pytest.mark.parametrize("biased", [False, True])
def test_the_largest_logits_become_exact(width: int, biased: bool) -> None:
    table, x = torch.randn(500, width), torch.randn(3, width)
    bias = torch.randn(500) if biased else None
    exact = torch.nn.functional.linear(x, table, bias)
    rough = exact + 0.1 * torch.randn(3, 500)
    found = rough.clone()
    sharpen(found, x, table, bias, 32)
    words = rough.topk(32).indices
    torch.testing.assert_close(found.gather(1, words), exact.gather(1, words), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.scatter(1, words, 0), rough.scatter(1, words, 0))
    alone = rough[1:2].clone()
    sharpen(alone, x[1:2].contiguous(), table, bias, 32)
    assert torch.equal(alone, found[1:2])


@built
def test_what_does_not_fit_is_one_sentence() -> None:
    table, x, logits = torch.randn(50, 16), torch.randn(3, 16), torch.randn(3, 50)
    wrong = [(logits.half(), x, table, 8), (logits, x[:, :15], table, 8), (logits, x, table[:40], 8)]
    for given in (*wrong, (logits, x, table, 51), (logits, x, table, 0), (logits[:2], x, table, 8)):
        with pytest.raises(UsageError, match="the decoding step cannot run"):
            sharpen(*given[:3], None, given[3])
    with pytest.raises(UsageError, match="the decoding step cannot run"):
        sharpen(logits, x, table, torch.randn(49), 8)


def test_where_the_library_is_missing_it_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "library", lambda: None)
    assert largest(torch.tensor([1.0, 3.0, 2.0]), 2)[1].tolist() == [1, 2]
