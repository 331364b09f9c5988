"""An interrupted run resumes bit for bit, or says why it cannot."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import directory as checkpoints
from captioner.checkpoint import load
from captioner.errors import CheckpointError, TrainingError
from captioner.training import state as states
from captioner.training import step as steps
from captioner.training import trainer
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data

MakeRecipe = Callable[..., Recipe]


class Crash(Exception):
    """A simulated power failure."""


@pytest.fixture(autouse=True)
def save_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1)


@pytest.fixture(scope="session")
def plan(recipe: MakeRecipe) -> Recipe:
    """Return a recipe with all kinds of state to restore: dropout, draws, EMA, rates, stages, parts, features."""
    common = {"ema": 0.9, "batch_size": 4, "label_smoothing": 0.1}
    return recipe(
        {**common, "task": "language_model", "epochs": 1, "batch_size": 12},
        {**common, "epochs": 2, "cache_features": True},
        {**common, "epochs": 2, "augment": True, "vision": "last:1", "accumulate": 2, "patience": 5},
        decoder={"dropout": 0.3},
        captions_per_image=1,
    )


@pytest.fixture(scope="session")
def unbroken(plan: Recipe, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    train(plan, data, out)
    return out


def same(a: object, b: object) -> bool:
    """Return whether two values are equal to the last bit, through all containers."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.equal(b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_the_same_end(one: Path, other: Path) -> None:
    a, b = (torch.load(out / "state.pt", weights_only=True) for out in (one, other))
    assert a.keys() == b.keys()
    assert [key for key in a if not same(a[key], b[key])] == []
    assert same(load(one).model.state_dict(), load(other).model.state_dict())
    assert load(one).training == load(other).training


# The unbroken run saves: 0 to 4 the language model (start, 3 steps, validation), 5 to 11 the kept features (start,
# 2 steps, validation, 2 steps, validation), 12 to 18 the backbone.
@pytest.mark.parametrize("saves", [2, 4, 7, 11, 13])
def test_a_run_cut_off_anywhere_ends_as_the_unbroken_one(
    plan: Recipe, data: Data, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    turns = iter(range(99))

    def write_and_crash(state: Mapping[str, Any], directory: Path) -> None:
        states.write_state(state, directory)
        if next(turns) == saves:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "write_state", write_and_crash)
        with pytest.raises(Crash):
            train(plan, data, tmp_path)
    torch.manual_seed(saves)
    torch.rand(saves)
    train(plan, data, tmp_path, resume=True)
    assert_the_same_end(tmp_path, unbroken)


def test_the_plan_of_the_saves_is_as_told(unbroken: Path) -> None:
    """The numbers of the tests above rely on it."""
    assert torch.load(unbroken / "state.pt", weights_only=True)["position"]["total_step"] == 3 + 4 + 4


def test_a_finished_run_resumes_to_its_end(plan: Recipe, data: Data, unbroken: Path) -> None:
    assert train(plan, data, unbroken, resume=True) == unbroken / "best"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> None:
    """Press Ctrl-C in the middle of this step (counted from 0)."""
    rate, turns = steps.set_rate, iter(range(99))

    def set_rate(*args: Any) -> float:
        if next(turns) == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return rate(*args)

    monkeypatch.setattr(steps, "set_rate", set_rate)


@pytest.mark.parametrize("step", [1, 6])
def test_ctrl_c_lets_the_step_end_and_saves(
    plan: Recipe, data: Data, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 600)
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(KeyboardInterrupt, match=rf"^stopped after step {step + 1}; .* with --resume$"):
            train(plan, data, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / "state.pt", weights_only=True)["position"]["total_step"] == step + 1
    train(plan, data, tmp_path, resume=True)
    assert_the_same_end(tmp_path, unbroken)


def test_a_second_ctrl_c_does_not_wait(
    plan: Recipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 600)
    interrupt_at(monkeypatch, 1, times=2)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(plan, data, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["position"]["total_step"] == 0


def test_nothing_to_resume(plan: Recipe, data: Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no run to resume in .*; start it without --resume"):
        train(plan, data, tmp_path, resume=True)


def test_another_recipe_is_refused(plan: Recipe, data: Data, unbroken: Path) -> None:
    other = replace(plan, stages=(*plan.stages[:2], replace(plan.stages[2], lr=0.5)))
    with pytest.raises(TrainingError, match=r"started with stages\.2\.lr = 0\.001, not 0\.5; resume it with"):
        train(other, data, unbroken, resume=True)
    with pytest.raises(TrainingError, match=r"started with number of stages = 3, not 2"):
        train(replace(plan, stages=plan.stages[:2]), data, unbroken, resume=True)
    with pytest.raises(TrainingError, match=r"started with decoder\.dropout = 0\.3, not 0\.1"):
        train(replace(plan, decoder={"width": 32, "layers": 2, "heads": 2, "context": 32}), data, unbroken, resume=True)
    train(replace(plan, workers=1), data, unbroken, resume=True)


def test_other_data_are_refused(plan: Recipe, data: Data, unbroken: Path) -> None:
    """The tokenizer is learnt from the data: the same ids would mean other words."""
    for other in (replace(data, train=data.train[1:]), replace(data, text=data.text[1:])):
        with pytest.raises(TrainingError, match=r"was started on other data .*; resume it with its own data"):
            train(plan, other, unbroken, resume=True)


def test_a_state_from_before_states_named_their_run(plan: Recipe, data: Data, unbroken: Path, tmp_path: Path) -> None:
    found = torch.load(unbroken / "state.pt", weights_only=True)
    del found["identity"]
    torch.save(found, tmp_path / "state.pt")
    for name in ("best", "last"):
        (tmp_path / name).symlink_to(unbroken / name)
    assert train(plan, data, tmp_path, resume=True) == tmp_path / "best"


def test_a_damaged_state(plan: Recipe, data: Data, unbroken: Path, tmp_path: Path) -> None:
    whole = (unbroken / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=r"^.*state\.pt is damaged \([^\n]*\); start again with another --out$"):
        train(plan, data, tmp_path, resume=True)


def test_a_full_disk_keeps_the_state_before(
    plan: Recipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, turns = torch.save, iter(range(99))

    def full(state: Any, path: Path) -> None:
        save(state, path)
        if next(turns) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot save the state .*No space left on device; free some space"):
        train(plan, data, tmp_path)
    assert not (tmp_path / "state.partial").exists()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["position"]["total_step"] == 1
    monkeypatch.undo()
    train(plan, data, tmp_path, resume=True)


def test_ctrl_c_while_a_state_is_saved_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(state: Any, path: Path) -> None:
        path.write_bytes(b"a part")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", press)
    with pytest.raises(KeyboardInterrupt):
        states.write_state({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_two_gpus_resumes_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[int, int] = {}

    def set_one(state: torch.Tensor, device: int) -> None:
        [0][device]  # as torch.cuda.default_generators on a machine with one GPU
        kept[device] = int(state[0])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda.random, "set_rng_state", set_one)
    cpu = torch.get_rng_state()
    states.set_random_state({"cpu": cpu, "cuda": [torch.tensor([5]), torch.tensor([6])]})
    assert kept == {0: 5}
    states.set_random_state({"cpu": cpu, "cuda": []})
    assert kept == {0: 5}


def test_a_full_disk_keeps_the_checkpoint_before(
    plan: Recipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_, turns = checkpoints.replace_folder, iter(range(99))

    def full(partial: Path, directory: Path) -> None:
        if next(turns) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_(partial, directory)

    monkeypatch.setattr(checkpoints, "replace_folder", full)
    with pytest.raises(CheckpointError, match=r"cannot save the checkpoint .*No space left on device; free some space"):
        train(plan, data, tmp_path)
    assert load(tmp_path).training["position"]["total_step"] == 5
