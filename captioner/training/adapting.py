"""Adapter training: the start of a run that trains only an adapter, and AdaLoRA's rank allocation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint, base_of
from captioner.config import AdapterConfig
from captioner.models import adapters
from captioner.models.captioner import Captioner
from captioner.training.recipe import Recipe


def with_adapter(recipe: Recipe, start: Checkpoint, adapter: AdapterConfig) -> tuple[Recipe, Checkpoint]:
    """Return the recipe with a frozen backbone, and ``start`` with a fresh adapter in its model.

    Raises ``CheckpointError`` if the adapter could not name ``start`` as its base, ``ConfigError`` if the adapter does
    not fit it.
    """
    base = base_of(start)
    torch.manual_seed(recipe.seed)
    adapters.insert(start.model, adapter)
    frozen = replace(recipe, stages=tuple(replace(stage, vision="frozen") for stage in recipe.stages))
    return frozen, replace(start, base=base)


class RankBudget:
    """AdaLoRA's allocation of ranks by importance (Zhang et al. 2023, arXiv 2303.10512, eq. 4 to 9), computed by peft.

    In the first stage, all layers keep their first rank for a tenth of the steps. Then a cubic schedule drops the least
    important ranks of all layers; the last half of the steps trains the remaining ones. Later stages keep these ranks.
    peft's own model would add the penalty of eq. 4 to the loss and count the steps, but an injected adapter leaves both
    to the loop. Without AdaLoRA in the model, every method does nothing.
    """

    def __init__(self, model: Captioner, average: Captioner) -> None:
        self.model, self.average, self.first = model, average, True
        self.kept: dict[str, Any] = {}  # the remaining ranks of each layer, by parameter
        self.allocator: Any = None
        if model.adapter is not None and model.adapter.method == "adalora":
            adapters.import_peft()
            from peft.tuners.adalora import RankAllocator

            self.settings = copy.copy(adapters.peft_settings(model))
            self.allocator = RankAllocator(model, self.settings, adapters.NAME)

    def begin(self, steps: int, *, first: bool) -> None:
        """Begin a stage of ``steps`` optimizer steps; ranks change in the ``first`` one."""
        self.first = first
        if self.allocator is not None:
            self.settings.total_step, self.settings.tinit, self.settings.tfinal = steps, steps // 10, steps // 2

    def penalty(self) -> Tensor | float:
        """Return the weighted mean of |P P^T - I| and |Q^T Q - I| over all layers (eq. 4): P and Q stay orthogonal."""
        if self.allocator is None:
            return 0.0
        penalties = []
        for name, value in self.model.named_parameters():
            if value.requires_grad and (".lora_A." in name or ".lora_B." in name):
                product = value @ value.T if ".lora_A." in name else value.T @ value  # (R, R)
                penalties.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
        return float(self.settings.orth_reg_weight) * torch.stack(penalties).mean()

    def step(self, step: int) -> None:
        """Update the ranks after step number ``step`` (from 1) of the stage, before its gradients are cleared."""
        if self.allocator is None:
            return
        last = self.settings.total_step - self.settings.tfinal
        if self.first and step <= last:
            for name, value in self.model.named_parameters():
                if ".lora_" in name and value.grad is None:  # a parameter that the task does not use has no importance
                    value.grad = torch.zeros_like(value)
            if step < last or self.allocator.ipt:  # else no step has measured the importance
                _, kept = self.allocator.update_and_allocate(self.model, step, force_mask=step == last)
                self.kept = kept or self.kept
        if self.kept:
            for model in (self.model, self.average):
                self.allocator.mask_using_rank_pattern(model, self.kept)

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides the weights."""
        names = ("ipt", "exp_avg_ipt", "exp_avg_unc")
        return {"kept": self.kept, **{name: getattr(self.allocator, name, {}) for name in names}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a saved ``state``."""
        self.kept = dict(state.get("kept", {}))
        if self.allocator is not None:
            devices = {name: value.device for name, value in self.model.named_parameters()}
            for name in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
                setattr(self.allocator, name, {n: value.to(devices[n]) for n, value in state.get(name, {}).items()})
