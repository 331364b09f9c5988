"""One step of a stage: the phases of its task, each with its own optimizer.

::

    prepare every part of the batch, without gradient
    for each phase:  loss and backward of every part;  clip;  the phase's optimizer;  clear gradients
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from captioner.errors import ConfigError, TrainingError
from captioner.models.captioner import Captioner
from captioner.training.adapting import RankBudget
from captioner.training.batches import Batch
from captioner.training.distributed import shard, shard_like, sharding, unshard
from captioner.training.optim import make_optimizer, set_rate
from captioner.training.plan import seed_from
from captioner.training.tasks.base import MODEL, Phase, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

EXPLODED = 1000.0  # loss per word; a uniform guess among 50,000 words has 11

Sums: TypeAlias = dict[str, tuple[float, float]]
"""The sum of each figure over all processes, and its divisor: the number of words, or its phase's ``counts``."""


class Stepper:
    """The modules of a stage (the model and its task's own), wrapped for all processes, and the optimizers."""

    def __init__(
        self, accelerator: Accelerator, task: Task, model: Captioner, *, ranks: RankBudget, directory: Path
    ) -> None:
        self.accelerator, self.task, self.ranks, self.directory = accelerator, task, ranks, directory
        self.divided = sharding()
        if self.divided and (task.own or type(task).prepare is not Task.prepare):
            raise ConfigError(
                f"{task.stage.task} uses the model outside its training step, which FSDP does not support; start "
                "without FSDP"
            )
        self.model = shard(model) if self.divided else model
        self.modules: dict[str, nn.Module] = {MODEL: self.model, **task.own}
        self.phases = task.phases()
        optimizers = [
            make_optimizer([self.modules[name] for name in phase.trains], task.stage, lr=phase.lr)
            for phase in self.phases
        ]
        if self.divided:  # FSDP synchronises gradients itself
            self.wrapped, self.optimizers = dict(self.modules), list(optimizers)
        else:
            prepared = accelerator.prepare(*self.modules.values(), *optimizers)
            self.wrapped = dict(zip(self.modules, prepared, strict=False))
            self.optimizers = list(prepared[len(self.modules) :])
        task.own = {name: self.wrapped[name] for name in task.own}

    def step(self, parts: Sequence[Batch], *, at: int, of: int, total: int) -> Sums:
        """Train on the parts of one step: number ``at`` of the stage's ``of`` steps, number ``total`` of the run.

        Raises ``TrainingError`` for a loss or gradient that is not finite or has exploded, before it changes a weight.
        """
        stage = self.task.stage
        seed = seed_from(self.task.recipe.seed, total)  # no generator: dropout draws other numbers on each process
        with self.accelerator.autocast(), torch.no_grad():
            parts = [self.task.prepare(self.model, replace(part, seed=seed)) for part in parts]
        sums = self._figures(parts)
        for phase, optimizer in zip(self.phases, self.optimizers, strict=True):
            rate = set_rate(optimizer, stage, at, of)
            figures, count = self._backward(phase, parts, total)
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            norm = float(unshard(self.accelerator.clip_grad_norm_(trained, stage.clip or math.inf)))
            # An fp16 scaler meets infinite gradients while it looks for a scale, and skips the step.
            if not math.isfinite(norm) and self.accelerator.scaler is None:
                raise self._broken(f"the gradient became {norm}", parts, total)
            optimizer.step()
            if MODEL in phase.trains:
                self.ranks.step(at + 1)
            optimizer.zero_grad(set_to_none=True)
            sums |= {phase.label(name): (value, count) for name, value in figures.items()}
            sums |= {phase.label(name): (value, 1.0) for name, value in (("lr", rate), ("gradient_norm", norm))}
        return sums

    def _backward(self, phase: Phase, parts: Sequence[Batch], total: int) -> tuple[dict[str, float], float]:
        """Compute the gradients of a phase; return the sums of its figures over all processes, and their divisor."""
        zero = torch.zeros((), device=self.accelerator.device)
        # The mean is over the words of the global batch: a part with fewer words weighs less.
        count = self.accelerator.reduce(sum((phase.counts(part) for part in parts), zero))
        scale = self.accelerator.num_processes / count  # DDP averages gradients over processes
        sums: dict[str, Tensor] = {}
        for part in parts:
            with self.accelerator.autocast():  # accelerate wraps a model's forward for its first stage only
                losses = phase.loss(self.wrapped[phase.trains[0]], part)
            loss = losses["loss"]
            height = float(loss.detach()) / max(1.0, float(phase.counts(part)))
            if not abs(height) < EXPLODED:
                raise self._broken(f"the {phase.label('loss')} became {height:g}", [part], total)
            penalty = self.ranks.penalty() / len(parts) if MODEL in phase.trains else 0.0
            self.accelerator.backward(loss * scale + penalty)
            for name, value in losses.items():
                sums[name] = sums.get(name, zero) + value.detach()
        return self._over_processes(sums), float(count)

    def _figures(self, parts: Sequence[Batch]) -> Sums:
        """Return the figures of ``prepare``, summed over all images of the step."""
        totals: dict[str, Tensor] = {}
        for part in parts:
            for name, value in part.figures.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value
        if not totals:
            return {}
        totals[""] = torch.tensor(float(sum(len(part.names) for part in parts)), device=self.accelerator.device)
        sums = self._over_processes(totals)
        images = sums.pop("")
        return {name: (value, images) for name, value in sums.items()}

    def _over_processes(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        reduced = self.accelerator.reduce(torch.stack(list(sums.values())))
        return dict(zip(sums, reduced.tolist(), strict=True))

    def _broken(self, what: str, parts: Sequence[Batch], total: int) -> TrainingError:
        good = self.directory / "best"
        names = [name for part in parts for name in part.names]
        saved = f"the last good checkpoint is {good}" if good.exists() else "nothing was saved yet"
        return TrainingError(
            f"{what} at step {total} (first images of the batch: {', '.join(names[:4])}); lower the learning rate with "
            f"--set, {saved}"
        )

    def train(self) -> None:
        """Put all modules in training mode."""
        for wrapped in self.wrapped.values():
            wrapped.train()

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides the model, unsharded for any number of processes."""
        scaler = self.accelerator.scaler  # of fp16 gradients; its scale decides which steps are skipped
        return {
            "scaler": {} if scaler is None else scaler.state_dict(),
            "optimizers": [unshard(optimizer.state_dict()) for optimizer in self.optimizers],
            "own": {name: module.state_dict() for name, module in self.modules.items() if name != MODEL},
            "task": self.task.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state``."""
        optimizers = state.get("optimizers") or [state["optimizer"]]  # old states have a single one
        for optimizer, saved in zip(self.optimizers, optimizers, strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.load_state_dict(shard_like(saved, parameters))
        for name, saved in state.get("own", {}).items():
            self.modules[name].load_state_dict(saved)
        if self.accelerator.scaler is not None and state.get("scaler"):  # older states have none
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.task.load_state(state.get("task", {}))

    def copy_to(self, model: Captioner) -> None:
        """Copy the weights of a sharded model to ``model``; every process must call it."""
        if self.divided:
            model.load_state_dict(unshard(self.model.state_dict()))

    def release(self) -> None:
        """Unwrap all modules, so that another stage can wrap them."""
        for wrapped in self.wrapped.values():
            self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        self.task.own = {name: self.modules[name] for name in self.task.own}
        self.accelerator.free_memory()


def mean(sums: Sequence[Sums]) -> dict[str, float]:
    """Return the mean of each figure over the given steps."""
    names = dict.fromkeys(name for step in sums for name in step)
    totals = {name: [step[name] for step in sums if name in step] for name in names}
    return {
        name: sum(value for value, _ in pairs) / max(sum(count for _, count in pairs), 1e-9)
        for name, pairs in totals.items()
    }
