"""Lines without images teach the decoder to read label tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint import Checkpoint
from captioner.errors import ConfigError
from captioner.metrics.nouns import LabelFinder
from captioner.models.labels import LabelSet
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data
from captioner.training.tasks.labelled_text import DISTRACTING, IMPROBABLE, NAMED, LabelledText

MakeRecipe = Callable[..., Recipe]
SHAPES = ("circle", "square", "triangle", "elephant", "kite", "zebra")


@pytest.fixture
def words(tmp_path: Path) -> str:
    (tmp_path / "words.txt").write_text("\n".join(SHAPES) + "\n")
    return str(tmp_path / "words.txt")


def begun(make: MakeRecipe, data: Data, **options: object) -> tuple[LabelledText, Checkpoint]:
    plan = make({"task": "labelled_text", "options": options})
    checkpoint = new_captioner(plan, data)
    assert LabelledText.equip(plan, plan.stages[0], data, checkpoint)
    task = LabelledText(plan, plan.stages[0], data, checkpoint.tokenizer)
    task.begin(checkpoint.model, checkpoint.model)
    return task, checkpoint


def test_the_labels_of_a_line_are_its_nouns_and_others(recipe: MakeRecipe, data: Data, words: str) -> None:
    task, _ = begun(recipe, data, words=words, count=4, dropped=0.0, distractors=0.0)
    labels, chances = task.draw([0, 2], torch.Generator().manual_seed(1))
    assert labels[:2].tolist() == [0, 2]
    assert all(NAMED[0] <= p <= NAMED[1] for p in chances[:2].tolist())
    assert set(labels[2:].tolist()) < {1, 3, 4, 5}
    assert all(IMPROBABLE[0] <= p <= IMPROBABLE[1] for p in chances[2:].tolist())

    task, _ = begun(recipe, data, words=words, count=4, dropped=1.0, distractors=1.0)
    labels, chances = task.draw([0, 2], torch.Generator().manual_seed(1))
    assert sorted(labels.tolist()) == [1, 3, 4, 5], "the line's own labels are left out, and never improbable"
    assert all(DISTRACTING[0] <= p <= DISTRACTING[1] for p in chances.tolist())


def test_shares_are_those_of_the_options(recipe: MakeRecipe, data: Data, words: str) -> None:
    task, _ = begun(recipe, data, words=words, count=3, dropped=0.4, distractors=0.25)
    draws = [task.draw([1], torch.Generator().manual_seed(n)) for n in range(600)]
    assert sum(1 in labels for labels, _ in draws) / 600 == pytest.approx(0.6, abs=0.06)
    others = [p > IMPROBABLE[1] for labels, ps in draws for n, p in zip(labels, ps, strict=True) if n != 1]
    assert sum(others) / len(others) == pytest.approx(0.25, abs=0.04)


def test_a_list_shorter_than_the_tokens_fills_them(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("circle\nsquare\n")
    task, _ = begun(recipe, data, words=str(tmp_path / "two.txt"), count=2, dropped=1.0)
    labels, chances = task.draw([0, 1], torch.Generator())
    assert labels.shape == chances.shape == (2,)
    assert chances.max() <= IMPROBABLE[1]


def batch_of(task: LabelledText) -> Batch:
    items = task.items(None)
    return task.collate()([items[n, 0] for n in range(6)])


def test_the_decoder_reads_them_where_patches_would_be(recipe: MakeRecipe, data: Data, words: str) -> None:
    task, checkpoint = begun(recipe, data, words=words, dropped=0.0)
    batch = task.prepare(checkpoint.model, batch_of(task))
    named = LabelFinder(SHAPES)
    for labels, texts in zip(batch.extra["labels"].tolist(), batch.captions, strict=True):
        assert named.find(texts[0]) <= set(labels)
    same = task.prepare_for_validation(checkpoint.model, batch)
    assert same.extra["labels"].equal(task.prepare_for_validation(checkpoint.model, batch).extra["labels"])
    model = checkpoint.model.eval()
    first = model(batch.tokens, LabelSet(batch.extra["labels"], batch.extra["log_odds"])).logits
    other = model(batch.tokens, LabelSet(batch.extra["labels"], -batch.extra["log_odds"])).logits
    assert first.isfinite().all()
    assert not first.equal(other), "the probability is read"
    assert not first.equal(model(batch.tokens).logits)
    task.loss(model, batch)["loss"].backward()
    trained = {name for name, p in model.named_parameters() if task.trained(name)}
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name in trained if "position_embedding" not in name or name in moved}
    assert model.labeller is not None
    assert model.labeller.proj.weight.grad is not None
    assert model.labeller.classify.weight.grad is None


def test_labels_depend_on_the_step_and_not_on_dropouts_random_numbers(
    recipe: MakeRecipe, data: Data, words: str
) -> None:
    task, checkpoint = begun(recipe, data, words=words)
    batch = batch_of(task)

    def drawn(step: int, numbers: int) -> list[list[float]]:
        torch.rand(numbers)
        found: list[list[float]] = task.prepare(checkpoint.model, replace(batch, seed=step)).extra["log_odds"].tolist()
        return found

    assert drawn(1, 0) == drawn(1, 5)
    assert drawn(1, 0) != drawn(2, 0)


def test_a_run_learns_from_lines_and_then_from_photos(
    recipe: MakeRecipe, data: Data, tmp_path: Path, words: str
) -> None:
    plan = recipe(
        {"task": "labelled_text", "epochs": 3, "lr": 3e-3, "options": {"words": words, "count": 3}},
        {"task": "labels", "epochs": 1, "options": {"words": words}},
    )
    train(plan, data, tmp_path / "run")
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "label_recall" in log
    scores = [float(line.split('"token_nll": ')[1].split(",")[0]) for line in log.splitlines() if "token_nll" in line]
    assert scores[2] < scores[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dropped": 1.5}, "options.dropped must lie between 0 and 1, not 1.5"),
        ({"distractors": -1.0}, "options.distractors must lie between 0 and 1, not -1"),
        ({"count": 0}, "options.count must be at least 1"),
    ],
)
def test_shares_outside_their_limits(recipe: MakeRecipe, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LabelledText.options_of(recipe({"task": "labelled_text", "options": options}).stages[0])
