"""Adversarial training of the captioner against a discriminator of human captions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from captioner.checkpoint import Checkpoint, load
from captioner.errors import ConfigError, DataError
from captioner.training import trainer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data
from captioner.training.tasks.adversarial import Adversarial

Make = Callable[..., Recipe]


def make(recipe: Make, data: Data, checkpoint: Checkpoint, **options: Any) -> tuple[Adversarial, Batch]:
    """Return a new task and the prepared batch of three images."""
    plan = recipe({"task": "adversarial", "options": {"samples": 3, "head_start": 0, **options}})
    task = Adversarial(plan, plan.stages[0], data, checkpoint.tokenizer)
    task.begin(checkpoint.model, checkpoint.model)
    items = task.items(None)
    torch.manual_seed(1)
    batch = task.collate()([items[(place, 0)] for place in range(3)])
    with torch.no_grad():
        return task, task.prepare(checkpoint.model, batch)


def test_what_the_discriminator_sees(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    _, batch = make(recipe, data, checkpoint)
    ids = checkpoint.tokenizer.config
    seen: dict[int, list[list[str]]] = {0: [], 1: [], 2: []}
    for b in range(3):
        for kind, found in seen.items():
            texts = []
            for k in (batch.extra["kinds"][b] == kind).nonzero().flatten().tolist():
                whole = batch.extra["captions"][b, k, : batch.extra["ends"][b, k] + 1].tolist()
                assert whole[0] == ids.bos_id
                assert whole[-1] == ids.eos_id or kind == 1
                texts.append(checkpoint.tokenizer.decode(whole))
            found.append(texts)
    for b, sample in enumerate(data.train[:3]):
        assert seen[0][b] == list(sample.captions)
        assert len(seen[1][b]) == 3
        others = {caption for other in data.train if other.name != sample.name for caption in other.captions}
        assert len(seen[2][b]) == 2
        assert set(seen[2][b]) <= others
    drawn = [checkpoint.tokenizer.decode(t) for t in batch.targets[0, :3].tolist()]
    assert seen[1][0] == drawn


def test_the_loss_of_the_discriminator_by_hand(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    """An undecided discriminator is at chance; otherwise a weighted mean over the kinds of each image."""
    task, batch = make(recipe, data, checkpoint)
    losses = task.discriminate(task.discriminator, batch)
    assert float(losses["loss"].detach()) == pytest.approx(3 * math.log(2))

    def certain(values: Any, grid: Any, prefix: Any, captions: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return torch.where(batch.extra["kinds"] == 2, -1.0, 2.0)

    losses = task.discriminate(certain, batch)  # type: ignore[arg-type]
    wanted = 3 * (0.5 * F.softplus(torch.tensor(-2.0)) + 0.25 * F.softplus(torch.tensor(2.0)))
    wanted += 3 * 0.25 * F.softplus(torch.tensor(-1.0))
    assert float(losses["loss"]) == pytest.approx(float(wanted), rel=1e-5)
    assert [float(losses[name]) / 3 for name in ("human", "drawn", "other")] == pytest.approx([100, 0, 100])


def test_each_phase_leaves_the_other_without_gradient(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    task, batch = make(recipe, data, checkpoint)
    model = checkpoint.model.train()
    model.requires_grad_(True)
    task.discriminate(task.discriminator, batch)["loss"].backward()
    assert all(p.grad is None for p in model.parameters())
    # The verdict starts at zero, so at first it alone has a slope; but DDP waits for every gradient.
    assert all(p.grad is not None for p in task.discriminator.parameters())
    task.discriminator.zero_grad(set_to_none=True)
    task.loss(model, batch)["loss"].backward()
    assert all(p.grad is None for p in task.discriminator.parameters())
    assert any(p.grad is not None for p in model.parameters())


def test_losses_are_computed_in_fp32(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    task, batch = make(recipe, data, checkpoint)
    with torch.autocast("cpu", torch.bfloat16):
        assert task.discriminate(task.discriminator, batch)["loss"].dtype == torch.float32
        assert task.loss(checkpoint.model, batch)["loss"].dtype == torch.float32


def plan_of(recipe: Make, **options: Any) -> Recipe:
    common = {"batch_size": 8, "cache_features": True, "validate_every": 99, "weight_decay": 0.0}
    return recipe(
        {**common, "epochs": 40, "lr": 4e-3},
        {
            **common,
            "task": "adversarial",
            "epochs": 30,
            "lr": 1e-3,
            "options": {"human": 0.0, "head_start": 10, "discriminator_lr": 2e-3, "window": 99, **options},
        },
        generation={"max_tokens": 16},
    )


def test_steps_make_the_discriminator_right_and_raise_the_reward(
    recipe: Make, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Trainer.__init__, "__kwdefaults__", {"log_every": 10})
    plan = plan_of(recipe)
    longer = replace(plan.stages[1], epochs=60)  # half as many raise the reward by a tenth with three of four seeds
    train(replace(plan, stages=(plan.stages[0], longer)), replace(data, validation=data.train), tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [record for record in log if record["kind"] == "train" and record["stage"] == 1]
    right = [sum(r[f"discriminator_{kind}"] for kind in ("human", "drawn", "other")) / 3 for r in found]
    assert max(right) > 70  # a verdict of always false is right on two of three kinds
    assert found[-1]["cider_d"] > 1.1 * found[0]["cider_d"]
    assert {"reward", "believed", "distinct", "discriminator_loss", "discriminator_gradient_norm"} <= found[0].keys()


def test_a_collapse_ends_the_stage_with_a_sentence(
    recipe: Make, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A captioner of random weights and one-word captions writes the same for every image."""
    plan = recipe(
        {"task": "adversarial", "epochs": 40, "options": {"samples": 5, "window": 2}},
        generation={"max_tokens": 1},
        decoder={"layers": 1},
    )
    start = plan_of_one_word(plan, data)
    train(plan, data, tmp_path / "run", start=start)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (end,) = [record for record in log if record["kind"] == "end"]
    assert end["reason"].startswith("collapse: of 100 sampled captions only")
    assert end["step"] == 4
    assert "collapse" in capsys.readouterr().err


def plan_of_one_word(plan: Recipe, data: Data) -> Checkpoint:
    from captioner.training.setup import new_captioner

    start = new_captioner(plan, data)
    embedding = start.model.decoder.token_embedding.weight
    with torch.no_grad():
        embedding[300] = 1.0
        start.model.decoder.final_norm.bias.fill_(10.0)
    return start


@pytest.mark.parametrize(("task", "saves"), [("adversarial", 2), ("adversarial", 4), ("self_critical", 2)])
def test_a_stopped_stage_goes_on_bit_for_bit(
    recipe: Make, data: Data, goes_on: Callable[..., Path], task: str, saves: int
) -> None:
    options = {"samples": 2, **({"window": 2} if task == "adversarial" else {})}
    stage = {"epochs": 2, "ema": 0.9, "augment": True, "vision": "last:1"}
    plan = recipe({**stage, "task": task, "options": options}, decoder={"dropout": 0.3})
    cut = goes_on(lambda out, resume: train(plan, data, out, resume=resume), saves)
    own = torch.load(cut / "state.pt", weights_only=True)["own"]
    assert own.keys() == ({"discriminator"} if task == "adversarial" else set())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "options.samples must be at least 2"),
        ({"adversary": -1}, "options.adversary must be 0 or more"),
        ({"cider": 0, "adversary": 0}, "nothing is rewarded"),
        ({"window": 0}, "options.window must be at least 1"),
        ({"discriminator": 5}, "unknown setting options.discriminator; did you mean options.discriminator_lr"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str, recipe: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        Adversarial.options_of(recipe({"task": "adversarial", "options": options}).stages[0])


def test_one_image_has_no_others(data: Data) -> None:
    with pytest.raises(DataError, match="at least two images"):
        Adversarial.check(replace(data, train=data.train[:1]))


def test_every_kind_of_caption_begins_with_its_language(recipe: Make, data: Data, bilingual: Path) -> None:
    checkpoint = load(bilingual / "best")
    both = tuple(replace(sample, captions=(sample.captions[0], "三角形")) for sample in data.train)
    _, batch = make(recipe, replace(data, train=both), checkpoint, human=0.0)
    languages = checkpoint.config.text.languages
    captions, kinds = batch.extra["captions"], batch.extra["kinds"]
    for caption, kind in zip(captions.flatten(0, 1).tolist(), kinds.flatten().tolist(), strict=True):
        if kind in (0, 2):
            said = checkpoint.tokenizer.decode(caption)
            assert caption[0] == languages["zh" if said == "三角形" else "en"], said
    assert {0, 2} <= set(kinds.flatten().tolist())
