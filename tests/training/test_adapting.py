"""Adapter training: only the adapter is trained and saved, and it resumes bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load, merged, save
from captioner.config import AdapterConfig
from captioner.errors import CheckpointError, ConfigError, TrainingError, UsageError
from captioner.models import adapters
from captioner.pipelines import CaptionPipeline
from captioner.training.adapting import RankBudget
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data

MakeRecipe = Callable[..., Recipe]
METHODS = ["lora", "adalora", "prefix"]


@pytest.fixture(scope="session")
def plan(recipe: MakeRecipe) -> Callable[..., Recipe]:
    def make(method: str, *stages: dict[str, Any], **adapter: Any) -> Recipe:
        lr = 2e-1 if method == "prefix" else 2e-2  # few numbers that go a long way
        quick = {"epochs": 12, "batch_size": 4, "lr": lr, "weight_decay": 0.0, "vision": "all", "ema": 0.5}
        made = recipe(*(stages or (quick,)), captions_per_image=1)
        settings = {"method": method, "rank": 4, "alpha": 8, "length": 4, **adapter}
        return replace(made, adapter=AdapterConfig(**settings))

    return make


@pytest.fixture(scope="session")
def other(data: Data) -> Data:
    """Return the pictures with their second captions, which the overfitted captioner has never seen."""
    second = tuple(replace(sample, captions=sample.captions[1:]) for sample in data.train)
    return replace(data, train=second, validation=second)


@pytest.fixture(scope="session")
def runs(
    plan: Callable[..., Recipe], other: Data, learnt: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return the directory of a finished run of each method. Do not modify it."""
    done: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in done:
            done[method] = tmp_path_factory.mktemp(method) / "run"
            train(plan(method), other, done[method], start=load(learnt))
        return done[method]

    return run


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def captions(checkpoint: Checkpoint, data: Data, **options: Any) -> list[tuple[str, float]]:
    said = CaptionPipeline(checkpoint).caption([sample.path for sample in data.train], **options)
    return [(caption.text, caption.score) for caption in said]


@pytest.mark.parametrize("method", METHODS)
def test_some_steps_teach_it_other_captions(runs: Callable[[str], Path], method: str) -> None:
    found = records(runs(method), "validation")
    assert found[0]["step"] == 0  # the start competes too
    assert min(record["token_nll"] for record in found) < (0.8 if method == "prefix" else 0.6) * found[0]["token_nll"]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_moves_but_the_adapter(runs: Callable[[str], Path], learnt: Path, method: str) -> None:
    """The EMA of the weights does not change the rest, nor does a recipe that would train the backbone."""
    base = load(learnt).model.state_dict()
    for kept in ("model", "average", "best"):
        found = torch.load(runs(method) / "state.pt", weights_only=True)[kept]
        frozen = {name.replace(".base_layer", ""): value for name, value in found.items()}
        assert all(torch.equal(frozen[name], value) for name, value in base.items())
    trained = load(runs(method)).training
    assert [stage["vision"] for stage in trained["recipe"]["stages"]] == ["frozen"]
    assert trained["recipe"]["adapter"]["method"] == method


@pytest.mark.parametrize("method", METHODS)
def test_best_and_last_hold_the_adapter_alone(runs: Callable[[str], Path], learnt: Path, method: str) -> None:
    for name in ("best", "last"):
        directory = runs(method) / name
        made = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
        weights = "adapter/prefix.safetensors" if method == "prefix" else "adapter/adapter_model.safetensors"
        own = {"config.json", "generation.json", "tokenizer.json", "training.json", "README.md", weights}
        assert made == own | ({"adapter/adapter_config.json"} if method != "prefix" else set())
        assert (directory / weights).stat().st_size < (learnt / "best" / "model.safetensors").stat().st_size / 4
        values = json.loads((directory / "config.json").read_text())
        assert values["base"]["source"] == str((learnt / "best").resolve())
        assert values["adapter"]["method"] == method
        assert f"| adapter | {method} on top of `" in (directory / "README.md").read_text()
    best = torch.load(runs(method) / "state.pt", weights_only=True)["best"]
    loaded = load(runs(method)).model.state_dict()
    assert all(torch.equal(loaded[name], best[name]) for name in loaded)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beams", [1, 3])
def test_merged_it_says_the_same_from_a_directory_of_its_own(
    runs: Callable[[str], Path], other: Data, learnt: Path, tmp_path: Path, method: str, beams: int
) -> None:
    shutil.copytree(runs(method) / "last", tmp_path / "adapter")  # the best may be the start
    shutil.copytree(learnt / "best", tmp_path / "base")
    values = json.loads((tmp_path / "adapter" / "config.json").read_text())
    values["base"]["source"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "config.json").write_text(json.dumps(values))
    unmerged = load(tmp_path / "adapter")
    save(merged(unmerged), tmp_path / "whole")
    shutil.rmtree(tmp_path / "adapter")
    shutil.rmtree(tmp_path / "base")
    whole = load(tmp_path / "whole")
    assert not (tmp_path / "whole" / "adapter").exists()
    assert whole.base is None
    assert unmerged.model.adapter is not None  # merging is done on a copy
    expected = captions(unmerged, other, beams=beams)
    found = captions(whole, other, beams=beams)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert captions(load(learnt), other, beams=beams) != found


# The run saves at 0, at the 2 steps and the validation of 4 epochs (1 to 12), and at 13 and so on in the second stage.
@pytest.mark.parametrize(("method", "cuts"), [("lora", [8]), ("adalora", [3, 14]), ("prefix", [14])])
def test_a_run_cut_off_anywhere_ends_as_the_unbroken_one(
    plan: Callable[..., Recipe],
    data: Data,
    learnt: Path,
    tmp_path: Path,
    goes_on: Callable[..., Path],
    method: str,
    cuts: list[int],
) -> None:
    """The saves lie inside AdaLoRA's budget, after it, and in a second stage of text without images."""
    common = {"batch_size": 4, "lr": 5e-3, "ema": 0.9, "augment": True}
    two = plan(method, {**common, "epochs": 4}, {**common, "task": "language_model", "epochs": 1, "augment": False})
    for saves in cuts:
        cut = goes_on(lambda out, resume: train(two, data, out, start=load(learnt), resume=resume), saves)
        whole, found = (load(run).model.state_dict() for run in (tmp_path / "whole", cut))
        assert whole.keys() == found.keys()
        assert all(torch.equal(value, found[name]) for name, value in whole.items())


def test_adalora_keeps_the_rank_it_was_given(runs: Callable[[str], Path]) -> None:
    """Each layer begins with rank six; the final average is four, unevenly shared."""
    state = torch.load(runs("adalora") / "state.pt", weights_only=True)
    for kept in ("model", "average"):
        left = [int(value.count_nonzero()) for name, value in state[kept].items() if ".lora_E." in name]
        assert sum(left) == 4 * len(left)
        assert max(left) > 4 > min(left)
    pattern = state["ranks"]["kept"]
    assert sum(sum(directions) for directions in pattern.values()) == 4 * len(pattern)


def budget(learnt: Path, steps: int) -> tuple[Any, RankBudget]:
    model = load(learnt).model
    adapters.insert(model, AdapterConfig(method="adalora", rank=2, alpha=4, targets=("q_proj", "fc1")))
    ranks = RankBudget(model, model)
    ranks.begin(steps, first=True)
    return model, ranks


def test_adalora_gives_up_what_matters_least(learnt: Path) -> None:
    """The sensitivity of a rank is |weight x gradient|: the ranks set to small values are dropped first."""
    model, ranks = budget(learnt, 20)
    singular = [p for name, p in model.named_parameters() if ".lora_E." in name]
    counts = []
    for step in range(1, 21):
        for name, p in model.named_parameters():
            if ".lora_" in name:
                p.data.fill_(1.0)
                p.grad = torch.full_like(p, 1e-3)
        for layer, p in enumerate(singular):
            p.data += torch.arange(3.0)[:, None] + 3 * layer  # importance in this order
            p.data *= 1 + 0.1 * (step % 2)
        ranks.step(step)
        counts.append([int(p.count_nonzero()) for p in singular])
    sums = [sum(c) for c in counts]
    assert sums[:2] == [12, 12]  # a tenth of the steps at the first rank
    assert sums == sorted(sums, reverse=True)
    assert sums[9:] == [8] * 11  # the second half at the last one
    assert counts[-1] == [0, 2, 3, 3]


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_adalora_bears_any_number_of_steps(learnt: Path, steps: int) -> None:
    model, ranks = budget(learnt, steps)
    for step in range(1, steps + 1):
        for name, p in model.named_parameters():
            if ".lora_" in name:
                p.grad = torch.rand(p.shape)
                p.data += 0.1 * p.grad
        ranks.step(step)
    assert all(p.isfinite().all() for p in model.parameters())


def test_adaloras_penalty_is_its_formula(learnt: Path) -> None:
    model, ranks = budget(learnt, 5)
    found = []
    for name, p in model.named_parameters():
        if ".lora_A." in name:
            found.append((p @ p.T - torch.eye(3)).square().sum().sqrt())
        elif ".lora_B." in name:
            found.append((p.T @ p - torch.eye(3)).square().sum().sqrt())
    penalty = ranks.penalty()
    assert isinstance(penalty, torch.Tensor)
    assert penalty.item() == pytest.approx(0.5 * sum(found).item() / len(found), rel=1e-5)
    penalty.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if ".lora_A." in name)


def test_without_adalora_there_is_no_budget(learnt: Path) -> None:
    model = load(learnt).model
    ranks = RankBudget(model, model)
    ranks.begin(10, first=True)
    ranks.step(1)
    assert ranks.penalty() == 0.0


def test_another_base_is_not_resumed_on(
    plan: Callable[..., Recipe], other: Data, runs: Callable[[str], Path], learnt: Path, tmp_path: Path
) -> None:
    checkpoint = load(learnt)
    with torch.no_grad():
        checkpoint.model.decoder.final_norm.bias.add_(1e-3)
    save(checkpoint, tmp_path / "moved")
    with pytest.raises(TrainingError, match=r"was started with base weights = '[0-9a-f]{64}', not"):
        train(plan("lora"), other, runs("lora"), start=load(tmp_path / "moved"), resume=True)


def test_an_adapter_needs_a_base_that_can_be_found_again(
    plan: Callable[..., Recipe], other: Data, recipe: MakeRecipe, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"needs a captioner to train on; use `captioner finetune --model M`$"):
        train(plan("lora"), other, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"must be saved in a directory; save the captioner, then load it"):
        train(plan("lora"), other, tmp_path / "out", start=new_captioner(recipe(), other))
    with pytest.raises(CheckpointError, match=r"is an adapter itself; merge it .*: captioner convert .* --merge$"):
        train(plan("lora"), other, tmp_path / "out", start=load(runs("lora")))
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_is_trained_in_full_becomes_one_captioner(
    recipe: MakeRecipe, other: Data, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    train(recipe({"epochs": 1}), other, tmp_path, start=load(runs("lora")))
    assert (tmp_path / "best" / "model.safetensors").exists()
    assert load(tmp_path).base is None


def test_a_wrong_target_is_said_before_anything_is_written(
    plan: Callable[..., Recipe], other: Data, learnt: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.targets: 'query' is no linear layer of the decoder"):
        train(plan("lora", targets=("query",)), other, tmp_path / "out", start=load(learnt))
    assert not (tmp_path / "out").exists()
