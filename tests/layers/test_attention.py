"""Attention: fused, explicit and by reference; masks, and the positions that a query attends to."""

from __future__ import annotations

import pytest
import torch

from captioner.layers.attention import (
    CrossAttention,
    Focus,
    ImageRead,
    MixedRead,
    SelfAttention,
    attend,
    attend_explicitly,
    attention_weights,
    causal_mask,
    merge_heads,
    split_heads,
)

from ..reference import slow_attention

CPU = torch.device("cpu")
WIDTH, HEADS = 12, 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def qkv() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, HEADS, 5, 4), torch.randn(2, HEADS, 7, 4), torch.randn(2, HEADS, 7, 4)


@pytest.fixture(params=["none", "boolean", "float"])
def mask(request: pytest.FixtureRequest) -> torch.Tensor | None:
    return {"none": None, "boolean": torch.ones(5, 7, dtype=torch.bool).tril(2), "float": torch.randn(5, 7)}[
        request.param
    ]


def centres(h: int, w: int) -> torch.Tensor:
    return torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w)


def test_attend_is_its_formula(qkv: tuple[torch.Tensor, ...], mask: torch.Tensor | None) -> None:
    slow = slow_attention.attend(*qkv, mask)
    with torch.no_grad():
        fused = attend(*qkv, mask)
    torch.testing.assert_close(fused, slow, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(attend_explicitly(*qkv, mask), slow, atol=1e-6, rtol=1e-5)


def test_attend_while_training_is_attend(qkv: tuple[torch.Tensor, ...], mask: torch.Tensor | None) -> None:
    q, k, v = (part.requires_grad_() for part in qkv)
    trained = attend(q, k, v, mask)
    with torch.no_grad():
        torch.testing.assert_close(trained, attend(q, k, v, mask), atol=1e-6, rtol=1e-5)
    trained.sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in (q, k, v))


def test_heads_split_and_merge() -> None:
    x = torch.randn(2, 5, WIDTH)
    heads = split_heads(x, HEADS)
    assert heads.shape == (2, HEADS, 5, WIDTH // HEADS)
    assert torch.equal(heads[1, 2, 3], x[1, 3, 8:12])
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize(
    ("tokens", "window", "rows"),
    [
        (3, None, ["100", "110", "111"]),
        (4, 2, ["1000", "1100", "0110", "0011"]),
        (2, 1, ["10", "01"]),
        (3, 7, ["100", "110", "111"]),
    ],
)
def test_causal_mask(tokens: int, window: int | None, rows: list[str]) -> None:
    mask = causal_mask(tokens, window=window, device=CPU)
    assert ["".join(str(int(visible)) for visible in row) for row in mask] == rows


@pytest.mark.parametrize(("h", "w", "prefix"), [(3, 3, 0), (2, 4, 1), (5, 1, 3)])
def test_focus_is_a_gaussian_around_its_point(h: int, w: int, prefix: int) -> None:
    focus = Focus(WIDTH, HEADS)
    x = torch.randn(2, 4, WIDTH) * 5
    point, spread = focus.locate(x)
    assert point.shape == (2, HEADS, 4, 2)
    assert spread.min() >= 0.02
    slow = slow_attention.focus_bias(point, spread, (h, w), prefix)
    bias = focus(x, centres(h, w), prefix)
    torch.testing.assert_close(bias, slow, atol=1e-4, rtol=1e-5)
    assert torch.equal(bias[..., :prefix], torch.zeros(2, HEADS, 4, prefix))


def test_focus_starts_a_quarter_of_the_image_wide_and_learns_where_to_look() -> None:
    focus = Focus(WIDTH, HEADS)
    _, spread = focus.locate(torch.zeros(1, 1, WIDTH))
    assert spread.flatten().tolist() == pytest.approx([0.27] * HEADS, abs=1e-4)
    bias = focus(torch.randn(1, 1, WIDTH), centres(3, 3), 0)
    q, k, v = (torch.randn(1, HEADS, n, 4) for n in (1, 9, 9))
    attend_explicitly(q, k, v, bias).square().sum().backward()
    assert focus.point.weight.grad is not None
    assert focus.point.weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("heads", "points"),
    [
        (1, [(0.5, 0.5)]),
        (4, [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]),
        (3, [(0.5, 1 / 6), (0.5, 0.5), (0.5, 5 / 6)]),
        (5, [(0.25, 1 / 6), (0.25, 0.5), (0.25, 5 / 6), (0.75, 1 / 6), (0.75, 0.5)]),
    ],
)
def test_heads_may_begin_apart(heads: int, points: list[tuple[float, float]]) -> None:
    focus = Focus(WIDTH, heads)
    nowhere = torch.zeros(1, 1, WIDTH)
    point, _ = focus.locate(nowhere)
    assert torch.equal(point, torch.full((1, heads, 1, 2), 0.5))
    focus.begin(0.5, apart=True)
    point, spread = focus.locate(nowhere)
    torch.testing.assert_close(point[0, :, 0], torch.tensor(points))
    torch.testing.assert_close(spread, torch.full((1, heads, 1, 1), 0.52))


def test_mixed_read_is_the_gated_sum(qkv: tuple[torch.Tensor, ...]) -> None:
    x, near = torch.randn(2, 5, WIDTH), torch.randn(5, 7)
    read = MixedRead(WIDTH, HEADS, "M")
    g = torch.sigmoid(x @ read.gate.weight.T + read.gate.bias).permute(0, 2, 1)[..., None]  # (B, H, Q, 1)
    wanted = g * slow_attention.attend(*qkv) + (1 - g) * slow_attention.attend(*qkv, near)
    torch.testing.assert_close(read(x, qkv, None, near), wanted, atol=1e-5, rtol=1e-4)
    for kind, mask in (("G", None), ("L", near)):
        found = MixedRead(WIDTH, HEADS, kind)(x, qkv, None, near)
        torch.testing.assert_close(found, slow_attention.attend(*qkv, mask), atol=1e-5, rtol=1e-4)


def test_one_mask_for_both_readings_is_read_once() -> None:
    x, mask = torch.randn(2, 5, WIDTH), torch.ones(5, 5, dtype=torch.bool).tril()
    qkv = tuple(torch.randn(2, HEADS, 5, 4) for _ in range(3))
    read = MixedRead(WIDTH, HEADS, "M")
    torch.testing.assert_close(read(x, qkv, mask, mask), read(x, qkv, mask, mask.clone()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "reach"), [("G", 5), ("L", 2), ("M", 5)])
def test_how_far_back_a_word_reads(kind: str, reach: int) -> None:
    layer = SelfAttention(WIDTH, HEADS, kind)
    masks = causal_mask(5, device=CPU), causal_mask(5, window=2, device=CPU)
    x = torch.randn(1, 5, WIDTH)
    for changed in range(5):
        other = x.clone()
        other[:, changed] += 1
        moved = (layer(x, masks) - layer(other, masks)).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [changed <= place < changed + reach for place in range(5)]


@pytest.mark.parametrize("kind", ["G", "L", "M"])
def test_captions_of_an_image_fold_onto_one_memory(kind: str) -> None:
    images, captions, words, patches = 2, 3, 4, 6
    layer = CrossAttention(WIDTH, HEADS, kind).eval()
    memory = layer.remember(torch.randn(images, patches, WIDTH))
    x = torch.randn(images * captions, words, WIDTH)
    with torch.no_grad():
        folded = layer(x, memory, centres(2, 3), 0)
        copied = tuple(part.repeat_interleave(captions, dim=0) for part in memory)
        torch.testing.assert_close(folded, layer(x, copied, centres(2, 3), 0), atol=1e-6, rtol=1e-5)
        alone = layer(x[4:5], tuple(part[1:2] for part in memory), centres(2, 3), 0)
    torch.testing.assert_close(folded[4:5], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["G", "L", "M"])
def test_prefix_tokens_are_visible_to_every_read(kind: str) -> None:
    layer = CrossAttention(WIDTH, HEADS, kind)
    if kind != "G":
        torch.nn.init.constant_(layer.focus.spread.bias, -30.0)  # the narrowest
    tokens = torch.randn(1, 2 + 4, WIDTH)
    x = torch.randn(1, 3, WIDTH)
    before = layer(x, layer.remember(tokens), centres(2, 2), 2)
    tokens[:, 0] += 3
    after = layer(x, layer.remember(tokens), centres(2, 2), 2)
    assert (before - after).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("kind", ["G", "L", "M"])
def test_what_is_written_down_is_what_was_read(kind: str) -> None:
    """Fused products equal those of the explicit weights to 1e-6, for foldable captions."""
    layer = CrossAttention(WIDTH, HEADS, kind).eval()
    x, places, prefix = torch.randn(6, 4, WIDTH), centres(2, 3), 1
    reads: list[ImageRead] = []
    with torch.no_grad():
        memory = layer.remember(torch.randn(2, prefix + 6, WIDTH))
        fused = layer(x, memory, places, prefix, reads=reads)
        assert torch.equal(fused, layer(x, memory, places, prefix))
        [read] = reads
        near = layer.focus(x.reshape(2, 12, WIDTH), places, prefix) if kind != "G" else None
        weights = {"G": read.global_weights, "L": read.local_weights}.get(kind)
        if kind == "M":
            assert read.gate is not None
            gate = read.gate[..., None]  # (B, H, K * T, 1)
            weights = gate * read.global_weights + (1 - gate) * read.local_weights
        explicit = layer.out_proj(merge_heads(weights @ memory[1])).view(x.shape)
    torch.testing.assert_close(fused, explicit, atol=1e-6, rtol=0)
    for found, mask in ((read.global_weights, None), (read.local_weights, near)):
        if found is not None:
            assert found.shape == (2, HEADS, 12, 7)
            torch.testing.assert_close(found.sum(-1), torch.ones(2, HEADS, 12), atol=1e-6, rtol=0)
            q = split_heads(layer.q_proj(x.reshape(2, 12, WIDTH)), HEADS)
            assert torch.equal(found, attention_weights(q, memory[0], mask))
    assert (read.global_weights is None, read.local_weights is None) == (kind == "L", kind == "G")
    assert (read.gate is None, read.point is None, read.spread is None) == (kind != "M", kind == "G", kind == "G")
