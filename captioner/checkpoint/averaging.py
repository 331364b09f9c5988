"""Averages of the weights of captioners that were trained from the same start."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from captioner.checkpoint.directory import Checkpoint, Restorable, merged
from captioner.errors import CheckpointError, UsageError


def average(captioners: Sequence[Restorable], shares: Sequence[float] | None = None) -> Checkpoint:
    """Return a captioner whose weights are the weighted mean of those of others; equal shares by default.

    ::

        both = average([load("runs/first"), load("runs/second")], [0.3, 0.7])
        save(both, "runs/both")

    Runs from one start stay in one basin of the loss, where the mean is often better than each (model soups: Wortsman
    et al. 2022, arXiv 2203.05482; after training with a reward: Ramé et al. 2024, arXiv 2406.16768). Choose the shares
    on held-out images. Tokenizer, decoding defaults and training record are those of the last captioner, without its
    scores; adapters are merged.
    Raises ``UsageError`` for shares that do not fit, and ``CheckpointError`` for captioners of different architecture
    or tokenizer.
    """
    import torch

    checkpoints = [merged(captioner.original()) for captioner in captioners]
    if not checkpoints:
        raise UsageError("give at least one captioner to average")
    shares = [1 / len(checkpoints)] * len(checkpoints) if shares is None else list(shares)
    if len(shares) != len(checkpoints) or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"give one share for each of the {len(checkpoints)} captioners, together 1, not {shares}")
    last = checkpoints[-1]
    for other in checkpoints:
        if other.config != last.config or other.tokenizer.to_json() != last.tokenizer.to_json():
            raise CheckpointError(
                f"the captioners {other.source or 'in memory'} and {last.source or 'in memory'} differ in architecture "
                "or tokenizer; only runs from one start have a common average"
            )
    model = copy.deepcopy(last.model)
    states = [checkpoint.model.state_dict() for checkpoint in checkpoints]
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                pairs = zip(shares, states, strict=True)
                value.copy_(torch.stack([share * state[name].float() for share, state in pairs]).sum(0))
    averaged = [{"source": one.source, "share": share} for one, share in zip(checkpoints, shares, strict=True)]
    training = {name: value for name, value in last.training.items() if name != "held_out"}  # scores of the last alone
    training["averaged"] = averaged
    return replace(last, model=model, training=training, card="", source="", base=None)
