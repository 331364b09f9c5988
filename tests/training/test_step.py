"""Tasks with modules and phases of their own: each trains its own weights, is logged, and resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captioner.models.captioner import Captioner
from captioner.training import trainer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.step import mean
from captioner.training.tasks import TASKS, Data
from captioner.training.tasks.base import MODEL, Phase
from captioner.training.tasks.cross_entropy import CrossEntropy

MakeRecipe = Callable[..., Recipe]


class Guess(CrossEntropy):
    """Cross-entropy of captions, and a small module that learns their lengths."""

    ends_after = 99

    def begin(self, model: Captioner, average: Captioner) -> None:
        self.model, self.steps = model, 0
        self.lengths_head = nn.Linear(1, 1)
        self.own["lengths"] = self.lengths_head

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase(loss=self.captions_loss),
            Phase(
                name="lengths",
                trains=("lengths",),
                loss=self.guess,
                counts=lambda b: torch.tensor(len(b.names)),
                lr=0.1,
            ),
        )

    def captions_loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert all(p.grad is None for p in self.lengths_head.parameters())
        return self.loss(wrapped, batch)

    def guess(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert wrapped is self.own["lengths"]
        assert all(p.grad is None for p in self.model.parameters())
        length = batch.weights.sum((1, 2))[:, None] / 10
        return {"loss": (wrapped(torch.ones_like(length)) - length).square().sum()}

    def watch(self, figures: Mapping[str, float]) -> str:
        self.steps += 1
        return f"{self.steps} steps are enough" if self.steps >= self.ends_after else ""

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "guess", Guess)


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_each_phase_moves_its_own_weights_and_is_told_of(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions learn the same as without the other phase."""
    monkeypatch.setattr(trainer.Trainer.__init__, "__kwdefaults__", {"log_every": 1})
    train(recipe({"task": "guess", "epochs": 4}), data, tmp_path / "guess")
    train(recipe({"epochs": 4}), data, tmp_path / "alone")
    found, alone = records(tmp_path / "guess", "train"), records(tmp_path / "alone", "train")
    assert [r["loss"] for r in found] == [r["loss"] for r in alone]
    assert found[-1]["lengths_loss"] < 0.5 * found[0]["lengths_loss"]
    assert found[0]["lengths_lr"] == pytest.approx(0.1)
    assert found[0]["lengths_gradient_norm"] > 0
    state = torch.load(tmp_path / "guess" / "state.pt", weights_only=True)
    assert state["own"].keys() == {"lengths"}
    assert len(state["optimizers"]) == 2


def test_a_task_ends_its_stage(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage ends in the middle of an epoch, after a validation; the next stage runs normally."""
    monkeypatch.setattr(Guess, "ends_after", 3)
    train(recipe({"task": "guess", "epochs": 9}, {"epochs": 1}), data, tmp_path)
    assert [(r["stage"], r["step"]) for r in records(tmp_path, "validation")] == [(0, 2), (0, 3), (1, 5)]
    assert [r["reason"] for r in records(tmp_path, "end")] == ["3 steps are enough"]
    assert "reason 3 steps are enough" in capsys.readouterr().err


@pytest.mark.parametrize("saves", [2, 5])
def test_a_stopped_stage_with_modules_of_its_own_goes_on_bit_for_bit(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch, goes_on: Callable[..., Path], saves: int
) -> None:
    """The interruptions are in the middle, and at the step after which the task ends the stage."""
    monkeypatch.setattr(Guess, "ends_after", 3)  # saves: start, step, step, validation, step, (then the end)
    plan = recipe({"task": "guess", "epochs": 9})
    cut = goes_on(lambda out, resume: train(plan, data, out, resume=resume), saves)
    assert torch.load(cut / "state.pt", weights_only=True)["task"] == {"steps": 3}


def test_figures_are_means_over_what_they_count() -> None:
    told = [{"loss": (6.0, 2.0), "lr": (0.1, 1.0)}, {"loss": (2.0, 6.0), "lr": (0.3, 1.0)}]
    assert mean(told) == {"loss": 1.0, "lr": pytest.approx(0.2)}


def test_a_phase_of_all_is_the_default(recipe: MakeRecipe, data: Data) -> None:
    plan = recipe({})
    task = CrossEntropy(plan, plan.stages[0], data, new_captioner(plan, data).tokenizer)
    task.own["heads"] = nn.Linear(2, 2)
    (phase,) = task.phases()
    assert phase.trains == (MODEL, "heads")
    assert phase.label("loss") == "loss"
