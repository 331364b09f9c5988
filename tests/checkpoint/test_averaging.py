"""An average of captioners has the mean of their weights, and others cannot be averaged."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from captioner.checkpoint import Checkpoint, average, load, save
from captioner.errors import CheckpointError, UsageError


def shifted(checkpoint: Checkpoint, by: float) -> Checkpoint:
    model = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by
    return replace(checkpoint, model=model, source=f"by {by}")


def test_weights_are_weighted_means(checkpoint: Checkpoint, tmp_path: object) -> None:
    found = average([shifted(checkpoint, 1.0), shifted(checkpoint, -3.0)], [0.25, 0.75])
    for name, parameter in checkpoint.model.named_parameters():
        torch.testing.assert_close(found.model.get_parameter(name), parameter - 2.0, rtol=1e-5, atol=1e-5)
    assert found.training["averaged"] == [{"source": "by 1.0", "share": 0.25}, {"source": "by -3.0", "share": 0.75}]
    again = load(save(found, f"{tmp_path}/both"))
    assert again.training["averaged"] == found.training["averaged"]
    equal = average([shifted(checkpoint, 1.0), shifted(checkpoint, 3.0)])
    name, parameter = next(iter(checkpoint.model.named_parameters()))
    torch.testing.assert_close(equal.model.get_parameter(name), parameter + 2.0, rtol=1e-5, atol=1e-5)


def test_the_captioners_stay_as_they_were(checkpoint: Checkpoint) -> None:
    other, before = shifted(checkpoint, 1.0), copy.deepcopy(checkpoint.model.state_dict())
    average([other, checkpoint])
    assert all(torch.equal(value, before[name]) for name, value in checkpoint.model.state_dict().items())


def test_numbers_that_are_no_weights_stay(checkpoint: Checkpoint) -> None:
    whole = {name for name, value in checkpoint.model.state_dict().items() if not value.is_floating_point()}
    state = average([checkpoint, shifted(checkpoint, 1.0)]).model.state_dict()
    assert all(torch.equal(state[name], checkpoint.model.state_dict()[name]) for name in whole)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [0.2, 0.3, 0.5]])
def test_shares_that_do_not_fit_are_one_sentence(checkpoint: Checkpoint, shares: list[float]) -> None:
    with pytest.raises(UsageError, match="one share for each of the 2 captioners, together 1"):
        average([checkpoint, checkpoint], shares)
    with pytest.raises(UsageError, match="at least one"):
        average([])


def test_another_architecture_is_one_sentence(checkpoint: Checkpoint) -> None:
    other = copy.deepcopy(checkpoint)
    other.model.config = replace(other.config, preprocess=replace(other.config.preprocess, size=32))
    with pytest.raises(CheckpointError, match="differ in architecture or tokenizer"):
        average([checkpoint, other])
