"""The loss that all tasks share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from captioner.training.tasks.base import weighted_cross_entropy


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 5, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)  # (B, K, T, V)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.randint(11, (2, 3, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> None:
    """It equals torch's sum over the weighted places, and its gradient."""
    weights = (torch.arange(5) < torch.tensor([[5, 2, 0], [1, 3, 4]])[..., None]).float()  # (B, K, T)
    loss, nll = weighted_cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    masked = targets.masked_fill(weights == 0, -100).flatten()
    flat = logits.flatten(0, 2)
    torch.testing.assert_close(loss, F.cross_entropy(flat, masked, reduction="sum", label_smoothing=smoothing))
    torch.testing.assert_close(nll, F.cross_entropy(flat, masked, reduction="sum"))
    (ours,) = torch.autograd.grad(loss, logits)
    (torchs,) = torch.autograd.grad(
        F.cross_entropy(logits.flatten(0, 2), masked, reduction="sum", label_smoothing=smoothing), logits
    )
    torch.testing.assert_close(ours, torchs)


def test_weights_scale_each_word(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """A reward of 2 counts double, one of -1 pushes the word away."""
    weights = torch.zeros(2, 3, 5)
    weights[0, 0, 0], weights[1, 2, 4] = 2.0, -1.0
    loss, _ = weighted_cross_entropy(logits, targets, weights)
    nll = -logits.log_softmax(-1)
    by_hand = 2 * nll[0, 0, 0, targets[0, 0, 0]] - nll[1, 2, 4, targets[1, 2, 4]]
    torch.testing.assert_close(loss, by_hand)
