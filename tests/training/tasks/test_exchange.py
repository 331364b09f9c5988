"""Captions and label tokens that name another label than the photo shows."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.errors import ConfigError
from captioner.models.captioner import Captioner
from captioner.models.labels import LabelQuery
from captioner.training.batches import Batch, Collate
from captioner.training.recipe import Recipe
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data
from captioner.training.tasks.base import weighted_cross_entropy
from captioner.training.tasks.distillation import Distillation
from captioner.training.tasks.exchange import LabelExchange
from captioner.training.tasks.labels import Labels

MakeRecipe = Callable[..., Recipe]
Begin = Callable[..., tuple[Labels, Captioner, Batch]]
SHAPES = ("circle", "square", "triangle", "elephant")


@pytest.fixture
def begun(recipe: MakeRecipe, data: Data, tmp_path: Path) -> Begin:
    """Return ``begun(share, vision)``: the task, its captioner, for which all labels are probable, and a batch."""

    def begin(share: float, vision: str = "frozen") -> tuple[Labels, Captioner, Batch]:
        (tmp_path / "words.txt").write_text("\n".join(SHAPES) + "\n")
        options = {"words": str(tmp_path / "words.txt"), "exchanged": share, "count": 4}
        plan = recipe({"task": "labels", "vision": vision, "options": options})
        checkpoint = new_captioner(plan, data)
        assert Labels.equip(plan, plan.stages[0], data, checkpoint)
        assert checkpoint.model.labeller is not None
        checkpoint.model.labeller.classify.bias.data = torch.tensor([1.0, 1.2, 1.4, 1.6])
        task = Labels(plan, plan.stages[0], data, checkpoint.tokenizer)
        task.begin(checkpoint.model, checkpoint.model)
        items = task.items(None)
        return task, checkpoint.model.train(), task.collate()([items[n, 0] for n in range(8)])

    return begin


def texts(task: Labels, batch: Batch) -> list[list[str]]:
    return [[task.tokenizer.decode(caption) for caption in image] for image in batch.targets.tolist()]


def exchanged(batch: Batch) -> int:
    return int((~batch.extra["given"].isnan()).any(1).sum())


@pytest.mark.parametrize("vision", ["frozen", "last:1"])
def test_caption_and_label_token_change_together(begun: Begin, vision: str) -> None:
    task, model, batch = begun(1.0, vision)
    assert task.exchange is not None
    model.eval()
    own = model.encode_image(batch.image).labels  # type: ignore[arg-type]
    assert own is not None
    before, find = texts(task, batch), task.exchange.finder.find
    renamed, same = 0, 0
    for seed in range(4):
        prepared = task.prepare(model.train(), replace(batch, seed=seed))
        assert model.training
        for image, row in enumerate(prepared.extra["given"]):
            captions = texts(task, prepared)[image]
            if row.isnan().all():
                assert captions == before[image]
                continue
            old, new = (~row.isclose(own[image])).nonzero().flatten().tolist()
            torch.testing.assert_close(row[[old, new]], own[image, [new, old]])
            named = find(" ".join(before[image]))
            if not named & {old, new}:
                assert captions == before[image], "no caption names the exchanged label"
                same += 1
                continue
            if old not in named:
                old, new = new, old
            assert new not in named
            for caption, text in zip(captions, before[image], strict=True):
                assert caption
                assert task.exchange.renamed(text, old, new).startswith(caption), "cut to the decoder's context"
            renamed += 1
    assert renamed > 4
    assert same > 4
    assert prepared.extra["labels"].equal(
        begun(0.0, vision)[0].prepare(model, batch).extra["labels"]
    )  # as the photo is
    assert task.loss(model, prepared)["loss"].isfinite()
    again = task.prepare(model, replace(batch, seed=3))
    assert again.tokens.equal(prepared.tokens), "the draws depend on the step and the names alone"


def test_the_decoder_reads_the_given_labels(begun: Begin) -> None:
    _, model, batch = begun(1.0)
    model.eval()
    tokens, given = batch.tokens, torch.full((8, 4), float("nan"))
    own = model(tokens, batch.image, LabelQuery())
    same = model(tokens, batch.image, LabelQuery(given))
    torch.testing.assert_close(same.logits, own.logits)
    given[3] = torch.tensor([-9.0, -9.0, -9.0, 9.0])
    other = model(tokens, batch.image, LabelQuery(given))
    assert not other.logits[3].allclose(own.logits[3])
    torch.testing.assert_close(other.logits[:3], own.logits[:3])
    torch.testing.assert_close(other.labels, own.labels)  # the loss of the labels is that of the photo


def test_a_share_of_the_images_is_exchanged(begun: Begin) -> None:
    task, model, batch = begun(0.0)
    assert "given" not in task.prepare(model, batch).extra
    task, model, batch = begun(0.3)
    assert task.exchange is not None
    counts = [
        int((~task.exchange(model, replace(batch, seed=n)).extra["given"].isnan()).any(1).sum()) for n in range(60)
    ]
    full = begun(1.0)[0].exchange
    assert full is not None
    most = int((~full(model, batch).extra["given"].isnan()).any(1).sum())
    assert sum(counts) / (60 * most) == pytest.approx(0.3, abs=0.07)


def test_an_improbable_label_is_not_exchanged(begun: Begin) -> None:
    task, model, batch = begun(1.0)
    assert model.labeller is not None
    torch.nn.init.constant_(model.labeller.classify.bias, -4.0)
    prepared = task.prepare(model, batch)
    assert prepared.extra["given"].isnan().all()
    assert prepared.tokens.equal(batch.tokens)
    assert prepared.targets.equal(batch.targets)
    assert prepared.weights.equal(batch.weights)


@pytest.fixture
def exchange(data: Data, recipe: MakeRecipe) -> LabelExchange:
    tokenizer = new_captioner(recipe(), data).tokenizer
    labels = ("dog", "elephant", "hot dog", "mouse", "person")
    return LabelExchange(labels, tokenizer, Collate(0, 1, 2), share=1.0)


@pytest.mark.parametrize(
    ("caption", "old", "new", "renamed"),
    [
        ("a dog runs", "dog", "elephant", "an elephant runs"),
        ("an elephant and an elephant", "elephant", "dog", "a dog and a dog"),
        ("two dogs, a dog", "dog", "mouse", "two mice, a mouse"),
        ("a dog eats a hot dog", "dog", "elephant", "an elephant eats a hot dog"),
        ("a hot dog", "hot dog", "dog", "a dog"),
        ("dogs", "dog", "person", "people"),
        ("A dog", "dog", "elephant", "An elephant"),
        ("a brown dog in an old dog house", "dog", "elephant", "a brown elephant in an old elephant house"),
        ("a cat", "dog", "elephant", "a cat"),
    ],
)
def test_mentions_are_renamed(exchange: LabelExchange, caption: str, old: str, new: str, renamed: str) -> None:
    place = exchange.labels.index
    assert exchange.renamed(caption, place(old), place(new)) == renamed


def test_another_label_is_of_the_same_kind_if_there_is_one(exchange: LabelExchange) -> None:
    names = [{exchange.labels[n] for n in others} for others in exchange.others]
    assert names[0] == {"elephant", "mouse"}
    assert names[4] == set(exchange.labels), "a person has no kind"


def test_captions_of_another_language_stay(data: Data, recipe: MakeRecipe, begun: Begin) -> None:
    task, model, batch = begun(1.0)
    english, chinese = task.tokenizer.config.bos_id, task.tokenizer.vocab_size - 1
    config = replace(task.tokenizer.config, languages={"en": english, "zh": chinese})
    speaking = LabelExchange(SHAPES, task.tokenizer.with_config(config), task.collate(), share=1.0)
    for start, stays in ((english, False), (chinese, True)):
        batch.tokens[:, :, 0] = start
        found = speaking(model, batch)
        assert bool(found.extra["given"].isnan().all()) is stays
        assert set(found.tokens[:, :, 0].flatten().tolist()) == {start}


def test_the_teacher_of_a_distillation_does_not_count_for_exchanged_images(
    recipe: MakeRecipe, data: Data, begun: Begin, tmp_path: Path
) -> None:
    _, model, batch = begun(1.0)
    plan = recipe({"task": "distillation", "ema": 0.9, "options": {"exchanged": 0.5, "share": 0.25}})
    task = Distillation(plan, plan.stages[0], data, new_captioner(plan, data).tokenizer)
    task.begin(model, deepcopy(model))
    prepared = task.prepare(model.eval(), replace(batch, seed=2))
    taught, given = prepared.extra["taught"][:, 0, 0], prepared.extra["given"]
    assert 0 < taught.sum() < 8
    assert taught.bool().equal(given.isnan().all(1))
    losses = task.loss(model, prepared)
    logits = model(prepared.tokens, prepared.image, LabelQuery(given)).logits
    _, human = weighted_cross_entropy(logits, prepared.targets, prepared.weights * (1 - 0.25 * taught[:, None, None]))
    # The student is its own teacher, so the divergence of the others is 0.
    torch.testing.assert_close(losses["loss"], human, rtol=1e-4, atol=1e-4)


def test_exchange_needs_labels(recipe: MakeRecipe, data: Data) -> None:
    plan = recipe({"task": "distillation", "ema": 0.9, "options": {"exchanged": 0.5}})
    checkpoint = new_captioner(plan, data)
    task = Distillation(plan, plan.stages[0], data, checkpoint.tokenizer)
    with pytest.raises(ConfigError, match="exchanged needs a captioner with labels; train them"):
        task.begin(checkpoint.model, checkpoint.model)
