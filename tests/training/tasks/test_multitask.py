"""Multitask training: each loss by hand, each objective learnt, including captioning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load, save
from captioner.config import AdapterConfig, HeadsConfig
from captioner.data.samples import Sample
from captioner.errors import ConfigError, DataError, UsageError
from captioner.metrics.words import words
from captioner.models.captioner import Captioner
from captioner.models.heads import LOSSES, end_states, pad_and_close
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import TASKS, Data
from captioner.training.tasks.base import weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.tasks.multitask import Multitask, Options, frequent_words

Make = Callable[..., Recipe]


def task_of(recipe: Recipe, data: Data, checkpoint: Checkpoint) -> Multitask:
    Multitask.equip(recipe, recipe.stages[0], data, checkpoint)
    return Multitask(recipe, recipe.stages[0], data, checkpoint.tokenizer)


def batch_of(task: CrossEntropy, images: int) -> Batch:
    items = task.items(None)
    return task.collate()([items[(place, 0)] for place in range(images)])


def plan_of(recipe: Make, **options: object) -> Recipe:
    return recipe({"task": "multitask", "options": options})


def heads_of(model: Captioner) -> Any:
    assert model.heads is not None
    return model.heads


def test_the_losses_of_a_batch_by_hand(recipe: Make, data: Data) -> None:
    """Captioning is the same as without heads; the other losses follow from the heads' outputs; the sum is weighted."""
    weights = {"caption": 1.0, "contrastive": 0.5, "matching": 0.25, "tags": 2.0}
    plan = plan_of(recipe, weights=weights, tags=6)
    checkpoint = new_captioner(plan, data)
    task, model = task_of(plan, data, checkpoint), checkpoint.model.eval()
    batch = task.prepare(model, batch_of(task, 4))
    losses = task.loss(model, batch)
    count = batch.weights.sum()
    caption, _ = weighted_cross_entropy(model(batch.tokens, batch.image).logits, batch.targets, batch.weights)
    torch.testing.assert_close(losses["caption"], caption.detach(), rtol=1e-5, atol=1e-4)
    assert isinstance(batch.image, torch.Tensor)
    labels = batch.extra["labels"]
    heads = heads_of(model)
    with torch.no_grad():
        pooled = heads.pooled(model.encode_image(batch.image))
        said = [[tag in " ".join(s.captions).split() for tag in heads_config(model).tags] for s in data.train[:4]]
        assert labels.tolist() == [[float(found) for found in row] for row in said]
        tags = heads.tag(pooled).sigmoid()
        by_hand = -(labels * tags.log() + (1 - labels) * (1 - tags).log()).mean()
        torch.testing.assert_close(losses["tags"], by_hand * count, rtol=1e-4, atol=1e-4)
        ids = [checkpoint.tokenizer.encode(caption) for s in data.train[:4] for caption in s.captions]
        texts = heads.of_texts(end_states(model.decoder, *pad_and_close(ids, checkpoint.tokenizer.config, 32)))
        e = (heads.logit_scale * heads.of_images(pooled) @ texts.T).exp()  # (4, 8)
        own = [[caption in s.captions for t in data.train[:4] for caption in t.captions] for s in data.train[:4]]
        terms = []
        for n in range(8):
            b = n // 2
            among_captions = sum(e[b, m] for m in range(8) if not own[b][m])
            among_images = sum(e[c, n] for c in range(4) if not own[c][n])
            terms += [-(e[b, n] / (e[b, n] + false)).log() for false in (among_captions, among_images)]
        torch.testing.assert_close(losses["contrastive"], torch.stack(terms).mean() * count, rtol=1e-4, atol=1e-4)
    total = sum(weight * losses[name] for name, weight in weights.items())
    torch.testing.assert_close(losses["loss"].detach(), total, rtol=1e-5, atol=1e-3)


def heads_config(model: Captioner) -> HeadsConfig:
    assert model.config.heads is not None
    return model.config.heads


def test_what_matching_sees_is_true_or_false_as_it_says(
    recipe: Make, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many draws, every false pair has other words than the image's captions."""
    plan = plan_of(recipe, negatives=3)
    checkpoint = new_captioner(plan, data)
    task = task_of(plan, data, checkpoint)
    batch = batch_of(task, 8)
    said = [[tuple(ids) for ids in of_image] for of_image in batch.tokens.tolist()]
    pairs: list[tuple[int, int]] = []
    from captioner.models import joint

    draw = joint.hard_negatives

    def watched(*args: Any) -> Any:
        image, text, valid = draw(*args)
        pairs.extend(zip(image[valid].tolist(), text[valid].tolist(), strict=True))
        return image, text, valid

    monkeypatch.setattr(joint, "hard_negatives", watched)
    with torch.no_grad():
        for _ in range(10):
            task.loss(checkpoint.model, batch)
    assert len(pairs) > 10 * 8 * 4
    captions = [ids for of_image in said for ids in of_image]
    assert not [(b, n) for b, n in pairs if captions[n] in said[b]]


def test_everything_that_is_to_be_trained_gets_a_gradient(recipe: Make, data: Data) -> None:
    """No other parameter takes part: one without a gradient would stall several processes."""
    for options in ({}, {"tags": 4, "pooling": "mean"}, {"matching": False}, {"weights": {"caption": 1.0}}):
        plan = plan_of(recipe, **options)
        checkpoint = new_captioner(plan, data)
        task = task_of(plan, data, checkpoint)
        model = checkpoint.model
        batch = task.prepare(model, batch_of(task, 4))
        task.loss(model, batch)["loss"].backward()
        for name, parameter in model.named_parameters():
            if not name.startswith("vision.backbone."):
                assert (parameter.grad is not None) == task.trained(name), (name, options)


def test_other_tasks_leave_heads_alone(recipe: Make, data: Data) -> None:
    for kind in TASKS.values():
        if kind is not Multitask:
            plan = recipe({"ema": 0.9})
            task = kind(plan, plan.stages[0], data, new_captioner(plan, data).tokenizer)
            assert not task.trained("heads.match.weight")
            assert task.trained("decoder.final_norm.weight")


def validations(out: Path) -> list[dict[str, float]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if (record := json.loads(line))["kind"] == "validation"]


def test_heads_learn_to_find_and_to_judge(taught: Path, learnt: Path, recipe: Make, data: Data) -> None:
    start_plan, known = plan_of(recipe), replace(data, validation=data.train)
    before = load(learnt)
    task = task_of(start_plan, known, before)
    start, end = task.validate(before.model, None, torch.device("cpu")), validations(taught)[-1]
    assert start["caption_recall1"] <= 40
    assert end["caption_recall1"] >= start["caption_recall1"] + 40
    assert end["image_recall1"] >= start["image_recall1"] + 40
    assert end["matching_accuracy"] >= start["matching_accuracy"] + 25
    assert end["cider_d"] > 0.5 * start["cider_d"]


def test_what_it_was_taught_comes_back(taught: Path, data: Data, tmp_path: Path) -> None:
    found = load(taught)
    assert found.config.heads == HeadsConfig()
    assert '"heads"' in (taught / "best" / "config.json").read_text(encoding="utf-8")
    again = load(save(found, tmp_path / "again"))
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    half = load(save(found, tmp_path / "half", dtype="fp16"))
    assert heads_of(half.model).logit_scale.item() == pytest.approx(heads_of(found.model).logit_scale.item(), rel=1e-2)
    assert "search, matching" in (taught / "best" / "README.md").read_text(encoding="utf-8")


def test_heads_that_are_there_are_trained_on(taught: Path, recipe: Make, data: Data, tmp_path: Path) -> None:
    start = load(taught)
    before = {name: value.clone() for name, value in start.model.state_dict().items() if name.startswith("heads.")}
    small = recipe({"task": "multitask", "epochs": 1, "options": {"width": 9, "tags": 3}, "cache_features": True})
    out = tmp_path / "run"
    train(small, data, out, start=start)
    found = load(out / "last")
    assert found.config.heads == HeadsConfig()
    assert not torch.equal(before["heads.match.weight"], found.model.state_dict()["heads.match.weight"])
    assert not torch.equal(before["heads._log_variances"], found.model.state_dict()["heads._log_variances"])


def test_captioning_goes_on_from_a_checkpoint_with_heads(
    taught: Path, recipe: Make, data: Data, tmp_path: Path
) -> None:
    train(recipe({"epochs": 1}), data, tmp_path / "run", start=load(taught))
    one, other = load(taught).model.state_dict(), load(tmp_path / "run" / "last").model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items() if name.startswith("heads."))


def test_a_new_captioner_learns_all_at_once(recipe: Make, data: Data, tmp_path: Path) -> None:
    options = {"tags": 5, "pooling": "mean", "matching": False, "weights": {"contrastive": 0.5}}
    train(recipe({"task": "multitask", "epochs": 1, "options": options}), data, tmp_path / "run")
    heads = heads_config(load(tmp_path / "run").model)
    assert (heads.pooling, heads.matching, len(heads.tags)) == ("mean", False, 5)
    assert "matching_accuracy" not in validations(tmp_path / "run")[0]


@pytest.mark.parametrize("saves", [2, 5])
def test_a_run_cut_off_ends_as_the_unbroken_one(
    recipe: Make, learnt: Path, data: Data, goes_on: Callable[..., Path], saves: int
) -> None:
    """The state includes hard negatives and learned weights: start, 2 steps, validation, 2 steps, validation."""
    plan = recipe(
        {"task": "multitask", "cache_features": True, "ema": 0.9, "batch_size": 4, "options": {"tags": 3}},
        decoder={"dropout": 0.3},
    )
    cut = goes_on(lambda out, resume: train(plan, data, out, start=load(learnt), resume=resume), saves)
    assert torch.load(cut / "state.pt", weights_only=True)["position"]["total_step"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "options.negatives and options.width must be at least 1"),
        ({"weights": {"captions": 1}}, "options.weights.captions is not a loss; choose from caption, contrastive"),
        ({"weights": {"caption": -1}}, "options.weights.caption must be a number of at least 0, not -1"),
        ({"weights": {"caption": "much"}}, "options.weights.caption must be a number"),
        ({"pooling": "max"}, "options.pooling must be one of attention, mean"),
        ({"width": 0}, "options.negatives and options.width must be at least 1"),
    ],
)
def test_options_that_cannot_be(
    recipe: Make, data: Data, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(plan_of(recipe, **options), data, tmp_path / "run")


def test_one_image_or_an_adapter_alone_cannot_be(recipe: Make, data: Data, learnt: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add images"):
        train(plan_of(recipe), replace(data, train=data.train[:1]), tmp_path / "run")
    with_adapter = replace(plan_of(recipe), adapter=AdapterConfig(method="prefix"))
    with pytest.raises(UsageError, match=r"^multitask trains heads, which an adapter run cannot train; leave"):
        train(with_adapter, data, tmp_path / "run", start=load(learnt))


def test_tags_are_frequent_words_that_say_something() -> None:
    said = ["a dog in the snow", "the dog is on a hill", "two dogs, a dog", "snow on a hill", "a hill of snow"]
    samples = [Sample(name=text, path=Path("a.jpg"), captions=(text, text)) for text in said]
    assert frequent_words(samples, 9, words) == ("dog", "hill", "snow")
    assert frequent_words(samples, 2, words) == ("dog", "hill")
    assert frequent_words(samples, 0, words) == ()


def test_the_losses_are_those_that_have_a_variance() -> None:
    assert set(Options(weights=dict.fromkeys(LOSSES, 1)).weights) == set(LOSSES)
