"""Self-critical training raises the probability of captions with a higher reward than the other samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load
from captioner.errors import ConfigError, DataError
from captioner.metrics.bleu import smoothed_bleu
from captioner.metrics.cider import CiderD, DocumentFrequencies
from captioner.metrics.mentions import mention_f1
from captioner.metrics.nouns import LabelFinder
from captioner.metrics.words import words
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.tasks import Data
from captioner.training.tasks.policy import END, leave_one_out
from captioner.training.tasks.self_critical import SelfCritical

Make = Callable[..., Recipe]


def task_of(recipe: Recipe, data: Data, checkpoint: Checkpoint) -> SelfCritical:
    return SelfCritical(recipe, recipe.stages[0], data, checkpoint.tokenizer)


def first_batch(task: SelfCritical, images: int) -> Batch:
    items = task.items(None)
    return task.collate()([items[(place, 0)] for place in range(images)])


def test_bleu_is_added_to_the_reward(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    def step(**options: float) -> Batch:
        torch.manual_seed(0)
        task = task_of(recipe({"task": "self_critical", "options": {"human": 0.0, **options}}), data, checkpoint)
        return task.prepare(checkpoint.model, first_batch(task, 3))

    plain, mixed, twice = step(), step(bleu=1.0), step(bleu=2.0)
    assert torch.equal(plain.tokens, mixed.tokens)
    assert plain.advantages is not None
    assert mixed.advantages is not None
    assert twice.advantages is not None
    added = mixed.advantages - plain.advantages
    assert added.abs().max() > 1e-3
    torch.testing.assert_close(twice.advantages - mixed.advantages, added)
    rewards = [
        smoothed_bleu(words(checkpoint.tokenizer.decode(targets[weights > 0].tolist())), references) / 100
        for targets, weights, references in zip(
            plain.targets[0], plain.weights[0], [[words(c) for c in data.train[0].captions]] * 5, strict=True
        )
    ]
    torch.testing.assert_close(added[0], leave_one_out(torch.tensor([rewards]))[0], atol=1e-5, rtol=0)


def test_mentions_are_added_to_the_reward(recipe: Make, data: Data, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("circle\nsquare\ntriangle\nstar\nbackground\n")

    def step(mentions: float) -> Batch:
        torch.manual_seed(0)
        options = {"human": 0.0, "mentions": mentions, "labels": str(tmp_path / "labels.txt")}
        task = task_of(recipe({"task": "self_critical", "options": options}), data, checkpoint)
        return task.prepare(checkpoint.model, first_batch(task, 3))

    plain, mixed = step(0.0), step(2.0)
    assert plain.advantages is not None
    assert mixed.advantages is not None
    finder = LabelFinder(("circle", "square", "triangle", "star", "background"))
    references = [finder.find(caption) for caption in data.train[0].captions]
    rewards = [
        2 * mention_f1(finder.find(checkpoint.tokenizer.decode(targets[weights > 0].tolist())), references) / 100
        for targets, weights in zip(plain.targets[0], plain.weights[0], strict=True)
    ]
    wanted = leave_one_out(torch.tensor([rewards]))[0]
    torch.testing.assert_close((mixed.advantages - plain.advantages)[0], wanted, atol=1e-5, rtol=0)
    assert "mentions" in mixed.figures


@pytest.mark.parametrize("human", [0.0, 0.5])
def test_what_a_step_sees(recipe: Make, data: Data, checkpoint: Checkpoint, human: float) -> None:
    plan = recipe({"task": "self_critical", "options": {"samples": 4, "human": human}})
    task = task_of(plan, data, checkpoint)
    torch.manual_seed(0)
    given = first_batch(task, 3)
    batch = task.prepare(checkpoint.model.train(), given)
    assert checkpoint.model.training
    captions = 4 + (given.tokens.shape[1] if human else 0)
    assert batch.tokens.shape[:2] == (3, captions)
    assert batch.advantages is not None
    assert batch.advantages.shape == (3, captions)
    torch.testing.assert_close(batch.advantages[:, :4].sum(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    if human:
        assert (batch.advantages[:, 4:] == human).all()
        kept = batch.weights[:, 4:, : given.weights.shape[2]]
        assert torch.equal(kept, given.weights)
        assert torch.equal(batch.targets[:, 4:, : given.targets.shape[2]][kept > 0], given.targets[kept > 0])
    references = [[[*words(c), END] for c in sample.captions] for sample in data.train]
    scorer = CiderD(DocumentFrequencies.of(references))
    ids = checkpoint.tokenizer.config
    rewards = torch.zeros(3, 4)
    for b in range(3):
        for k in range(4):
            targets = batch.targets[b, k][batch.weights[b, k] > 0].tolist()
            assert batch.tokens[b, k, 0] == ids.bos_id
            assert batch.tokens[b, k, 1 : len(targets)].tolist() == targets[:-1]
            ended = targets[-1] == ids.eos_id
            said = words(checkpoint.tokenizer.decode(targets))
            rewards[b, k] = scorer.score_vectors([*said, END] if ended else said, scorer.vectors(references[b]))
    torch.testing.assert_close(batch.advantages[:, :4], leave_one_out(rewards / 100), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch.figures["reward"] / 3, rewards.mean(), atol=1e-3, rtol=1e-4)


def test_the_loss_by_hand(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    plan = recipe({"task": "self_critical", "options": {"human": 0.3}})
    task = task_of(plan, data, checkpoint)
    model = checkpoint.model.eval()
    batch = task.prepare(model, first_batch(task, 2))
    log_probs = model(batch.tokens, batch.image).logits.log_softmax(-1).detach()
    wanted = 0.0
    assert batch.advantages is not None
    for b, k, t in batch.weights.nonzero().tolist():
        wanted -= float(batch.advantages[b, k] * log_probs[b, k, t, batch.targets[b, k, t]])
    assert task.loss(model, batch)["loss"].item() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_steps_raise_the_reward(recipe: Make, data: Data, tmp_path: Path) -> None:
    """The captioner starts with the words but few of the pictures."""
    from captioner.training.run import train

    one = replace(data, validation=data.train)
    plan = recipe(
        {"epochs": 25, "batch_size": 8, "lr": 4e-3, "vision": "all", "vision_lr": 2e-3, "validate_every": 25},
        {
            "task": "self_critical",
            "epochs": 30,
            "batch_size": 8,
            "lr": 1e-3,
            "vision": "all",
            "vision_lr": 1e-3,
            "validate_every": 30,
            "options": {"human": 0.0},
        },
    )
    train(plan, one, tmp_path / "run")
    log = [line for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines() if '"validation"' in line]
    before, after = (json.loads(line)["cider_d"] for line in log)
    assert after > 1.1 * before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "options.samples must be at least 2"),
        ({"human": -1}, "options.human must be 0 or more"),
        ({"bleu": -1}, "options.bleu must be 0 or more"),
        ({"mentions": -1}, "options.mentions must be 0 or more"),
        ({"sample": 5}, "unknown setting options.sample; did you mean options.samples"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str, recipe: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        SelfCritical.options_of(recipe({"task": "self_critical", "options": options}).stages[0])


def test_images_of_one_name_are_refused(data: Data) -> None:
    with pytest.raises(DataError, match="rename them"):
        SelfCritical.check(replace(data, train=(*data.train, data.train[0])))


def test_bleu_of_captions_without_spaces(recipe: Make, data: Data, bilingual: Path) -> None:
    found = load(bilingual / "best")
    chinese = tuple(replace(sample, captions=("一只红色的圆",)) for sample in data.train)
    plan = recipe({"task": "self_critical", "options": {"bleu": 1.0}})
    task = task_of(plan, replace(data, train=chinese), found)
    assert task._bleu("一只蓝色的圆", data.train[0].name) > 10
