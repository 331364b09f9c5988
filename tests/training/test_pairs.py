"""Losses over pairs, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from captioner.models.heads import LOSSES
from captioner.training.pairs import combined, contrastive_loss, matching_accuracy, matching_loss


def test_with_one_caption_per_image_contrast_is_clips() -> None:
    similarity = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    place = torch.arange(5)
    ours = contrastive_loss(similarity, torch.eye(5).bool(), place)
    clip = (F.cross_entropy(similarity, place) + F.cross_entropy(similarity.T, place)) / 2
    torch.testing.assert_close(ours, clip)
    one, other = (torch.autograd.grad(loss, similarity)[0] for loss in (ours, clip))
    torch.testing.assert_close(one, other)


def test_several_captions_by_hand() -> None:
    """Two images have two captions each, and the last caption has the words of the first."""
    s = [[2.0, 1.0, 0.5, 0.0], [0.3, -1.0, 1.5, 1.0]]
    own = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1]]).bool()
    e = [[math.exp(value) for value in row] for row in s]
    captions = [
        e[0][0] / (e[0][0] + e[0][2]),
        e[0][1] / (e[0][1] + e[0][2]),
        e[1][2] / (e[1][2] + e[1][1]),
        e[1][3] / (e[1][3] + e[1][1]),
    ]
    images = [1.0, e[0][1] / (e[0][1] + e[1][1]), e[1][2] / (e[1][2] + e[0][2]), 1.0]
    by_hand = -sum(map(math.log, captions + images)) / 8
    found = contrastive_loss(torch.tensor(s), own, torch.tensor([0, 0, 1, 1]))
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_true_pairs_do_not_push_each_other_away() -> None:
    """Another caption of the image, however similar, changes nothing; a false one does."""
    own, owner = torch.tensor([[1, 1, 0], [0, 0, 1]]).bool(), torch.tensor([0, 0, 1])
    similarity = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(contrastive_loss(similarity, own, owner), similarity)
    assert (gradient[own] < 0).all()
    assert (gradient[~own] > 0).all()


def test_where_everything_is_true_there_is_nothing_to_learn() -> None:
    similarity = torch.randn(1, 3, requires_grad=True)
    loss = contrastive_loss(similarity, torch.ones(1, 3).bool(), torch.zeros(3, dtype=torch.long))
    (gradient,) = torch.autograd.grad(loss, similarity)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(1, 3))


def test_matching_weighs_true_and_false_the_same() -> None:
    true, false = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0])
    sigmoid = [1 / (1 + math.exp(-x)) for x in (2.0, 0.0, -1.0, 1.0)]
    by_hand = (-sum(map(math.log, sigmoid[:3])) / 3 - math.log(1 - sigmoid[3])) / 2
    assert float(matching_loss(true, false)) == pytest.approx(by_hand)
    assert float(matching_accuracy(true, false)) == pytest.approx(50 * (1 / 3 + 0))
    assert float(matching_accuracy(true, -false)) == pytest.approx(50 * (1 / 3 + 1))
    assert float(matching_loss(torch.zeros(4), torch.zeros(9))) == pytest.approx(math.log(2))
    nothing = torch.zeros(0, requires_grad=True)
    assert float(matching_loss(true, nothing)) == pytest.approx(-sum(map(math.log, sigmoid[:3])) / 6)


def test_fixed_weights() -> None:
    losses = {"caption": torch.tensor(2.0), "matching": torch.tensor(0.5)}
    assert float(combined(losses, None, {"caption": 0.5})) == pytest.approx(1.5)


def test_learned_weights_are_kendalls_and_go_where_they_are_least() -> None:
    losses = {"caption": torch.tensor(2.0), "contrastive": torch.tensor(0.5), "matching": torch.tensor(0.1)}
    s = torch.tensor([0.2, -0.3, 0.1, 5.0], requires_grad=True)
    by_hand = sum(math.exp(-v) * L + v / 2 for v, L in ((0.2, 2.0), (-0.3, 0.5), (0.1, 0.1)))
    assert combined(losses, s, {}).item() == pytest.approx(by_hand)
    optimizer = torch.optim.Adam([s], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        combined(losses, s, {}).backward()
        optimizer.step()
    for name, loss in losses.items():
        assert (-s[LOSSES.index(name)]).exp().item() == pytest.approx(1 / (2 * float(loss)), rel=0.01)
    assert s[LOSSES.index("tags")].item() == 5.0
