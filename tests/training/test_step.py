"""Tasks with modules and phases of their own: each trains its own weights, is logged, and resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from captioner.models.captioner import Captioner
from captioner.training import trainer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import accelerator, new_captioner
from captioner.training.step import mean
from captioner.training.tasks import TASKS, Data
from captioner.training.tasks.base import MODEL, Phase
from captioner.training.tasks.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from accelerate import Accelerator

MakeRecipe = Callable[..., Recipe]


class Seeds(CrossEntropy):
    """Cross-entropy, with a list of the seeds and random numbers of all batches."""

    seen: list[tuple[int, float]]

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        self.seen.append((batch.to(batch.tokens.device).seed, float(torch.rand(()))))
        return batch


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


def with_scaler(plan: Recipe) -> Accelerator:
    made = accelerator(plan)
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    return made


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


@pytest.mark.parametrize("saves", [0, 3])
def test_the_scale_of_fp16_gradients_resumes(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch, goes_on: Callable[..., Path], saves: int
) -> None:
    """A scaler of the CPU stands for the GPU's, and grows at every second step."""
    monkeypatch.setattr(trainer, "accelerator", with_scaler)
    plan = recipe({"epochs": 2})
    cut = goes_on(lambda out, resume: train(plan, data, out, resume=resume), saves)
    state = torch.load(cut / "state.pt", weights_only=True)
    assert state["scaler"]["scale"] == 1024.0 * 2 ** (state["position"]["total_step"] // 2)
    assert state["position"]["total_step"] == 4


def test_a_state_without_a_scale_resumes(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version saved none, and neither does a run in another precision."""
    plan = recipe({"epochs": 2})
    train(plan, data, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["scaler"] == {}
    monkeypatch.setattr(trainer, "accelerator", with_scaler)
    train(plan, data, tmp_path, resume=True)
    del state["scaler"]
    torch.save(state, tmp_path / "state.pt")
    train(plan, data, tmp_path, resume=True)


def test_figures_are_means_over_what_they_count() -> None:
    told = [{"loss": (6.0, 2.0), "lr": (0.1, 1.0)}, {"loss": (2.0, 6.0), "lr": (0.3, 1.0)}]
    assert mean(told) == {"loss": 1.0, "lr": pytest.approx(0.2)}


def test_the_parts_of_a_step_share_a_seed_that_no_random_number_changes(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: Callable[..., Path]
) -> None:
    """Each process of a run draws its own random numbers for dropout; the seed is the same for all of them."""

    def seen(name: str, dropout: float, seed: int = 0) -> tuple[list[int], list[float]]:
        Seeds.seen = []
        stage = {"task": "seeds", "epochs": 1, "accumulate": 2}
        plan = recipe(stage, stage, decoder={"dropout": dropout}, seed=seed)
        train(plan, data, tmp_path / name)
        seeds, numbers = zip(*Seeds.seen, strict=True)
        return list(seeds), list(numbers)

    monkeypatch.setitem(TASKS, "seeds", Seeds)
    seeds, numbers = seen("none", 0.0)
    assert len(seeds) == 8, "two stages of two steps of two parts"
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 4
    with_dropout, others = seen("some", 0.3)
    assert with_dropout == seeds
    assert others != numbers
    assert not set(seen("other", 0.0, seed=1)[0]) & set(seeds)
    stage = {"task": "seeds", "epochs": 2, "accumulate": 2}
    plan = recipe(stage, decoder={"dropout": 0.3})
    Seeds.seen = []
    goes_on(lambda out, resume: train(plan, data, out, resume=resume), 2)
    assert Seeds.seen == Seeds.seen[:8] * 2, "whole, then as far as the crash, then the rest"


def test_a_phase_of_all_is_the_default(recipe: MakeRecipe, data: Data) -> None:
    plan = recipe({})
    task = CrossEntropy(plan, plan.stages[0], data, new_captioner(plan, data).tokenizer)
    task.own["heads"] = nn.Linear(2, 2)
    (phase,) = task.phases()
    assert phase.trains == (MODEL, "heads")
    assert phase.label("loss") == "loss"
