"""A student learns the teacher's distribution of every word, beside the human captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from captioner.checkpoint import Checkpoint, load, save
from captioner.errors import ConfigError, TrainingError
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data
from captioner.training.tasks.base import weighted_cross_entropy
from captioner.training.tasks.distillation import Distillation, divergence

Make = Callable[..., Recipe]


def pupil(learnt: Path) -> Checkpoint:
    """Return random weights with the teacher's tokens."""
    teacher = load(learnt)
    torch.manual_seed(3)
    return replace(teacher, model=Captioner(teacher.config).eval(), source="")


def make(recipe: Make, data: Data, checkpoint: Checkpoint, **options: Any) -> tuple[Distillation, Batch]:
    plan = recipe({"task": "distillation", "ema": 0.9, "options": options})
    task = Distillation(plan, plan.stages[0], data, checkpoint.tokenizer)
    items = task.items(None)
    return task, task.collate()([items[(place, 0)] for place in range(3)])


@pytest.mark.parametrize("top", [0, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_by_hand(
    recipe: Make, data: Data, checkpoint: Checkpoint, learnt: Path, top: int, share: float
) -> None:
    task, batch = make(recipe, data, checkpoint, share=share, temperature=3.0, top=top)
    student = pupil(learnt).model
    task.begin(student, checkpoint.model)
    with torch.no_grad():
        batch = task.prepare(student, batch)
        losses = task.loss(student, batch)
        q = (student(batch.tokens, batch.image).logits / 3).softmax(-1)
        p = (checkpoint.model(batch.tokens, batch.image).logits / 3).softmax(-1)
        kl = agreed = 0.0
        for b, k, t in batch.weights.nonzero().tolist():
            ours, theirs = q[b, k, t], p[b, k, t]
            kept = theirs.argsort(descending=True)[: top or None]
            if top:
                ours, theirs = (torch.cat([x[kept], 1 - x[kept].sum(0, keepdim=True)]) for x in (ours, theirs))
            kl += float((theirs * (theirs.log() - ours.log())).sum())
            agreed += float(q[b, k, t].argmax() == kept[0])
        human, _ = weighted_cross_entropy(student(batch.tokens, batch.image).logits, batch.targets, batch.weights)
    assert float(losses["kl"]) == pytest.approx(kl, rel=2e-3)
    assert float(losses["loss"]) == pytest.approx((1 - share) * float(human) + share * 9 * kl, rel=2e-3)
    assert float(losses["agreement"]) == 100 * agreed


def test_the_divergence_of_the_likeliest_is_none_for_equals_and_no_more_than_that_of_all() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 40).log_softmax(-1)
    whole = divergence(teacher, student, whole=True)
    torch.testing.assert_close(whole, F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1))
    top = teacher.topk(6)
    part = divergence(top.values, student.gather(1, top.indices), whole=False)
    assert (part > 0).all()
    assert (part <= whole + 1e-6).all()
    torch.testing.assert_close(divergence(top.values, top.values, whole=False), torch.zeros(5))


def test_losses_are_computed_in_fp32(recipe: Make, data: Data, checkpoint: Checkpoint, learnt: Path) -> None:
    task, batch = make(recipe, data, checkpoint)
    task.begin(checkpoint.model, checkpoint.model)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            batch = task.prepare(checkpoint.model, batch)
        assert batch.extra["log_probs"].dtype == torch.float32
        assert task.loss(pupil(learnt).model, batch)["loss"].dtype == torch.float32


def test_a_student_approaches_its_teacher(recipe: Make, data: Data, learnt: Path, tmp_path: Path) -> None:
    """This holds on held-out photos too."""
    plan = recipe(
        {
            "task": "distillation",
            "epochs": 40,
            "batch_size": 8,
            "lr": 4e-3,
            "vision": "all",
            "vision_lr": 2e-3,
            "validate_every": 40,
            "options": {"teacher": str(learnt / "best"), "share": 1.0},
        }
    )
    start, teacher = pupil(learnt), load(learnt).model

    def apart(model: Captioner) -> float:
        task, _ = make(recipe, data, start)
        items = task.captions(data.validation, None, views="plain")
        batch = task.collate()([items[(place, 0)] for place in range(len(items))])
        places = batch.weights > 0
        with torch.no_grad():
            p, q = (m(batch.tokens, batch.image).logits[places].log_softmax(-1) for m in (teacher, model.eval()))
        return float(F.kl_div(q, p, log_target=True, reduction="batchmean"))

    before = apart(start.model)
    train(plan, data, tmp_path / "run", start=start)
    after = apart(load(tmp_path / "run" / "last").model)
    assert after < 0.5 * before
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(record["kind"] == "validation" for record in log)


@pytest.mark.parametrize("of", ["average", "checkpoint"])
def test_a_stopped_stage_goes_on_bit_for_bit(
    recipe: Make, data: Data, learnt: Path, tmp_path: Path, goes_on: Callable[..., Path], of: str
) -> None:
    save(load(learnt), tmp_path / "teacher")
    options = {} if of == "average" else {"teacher": str(tmp_path / "teacher")}
    plan = recipe(
        {"task": "distillation", "epochs": 2, "ema": 0.9, "augment": True, "vision": "last:1", "options": options},
        decoder={"dropout": 0.3},
    )
    cut = goes_on(lambda out, resume: train(plan, data, out, start=load(learnt), resume=resume), 2)
    if of == "checkpoint":
        save(pupil(learnt), tmp_path / "teacher")
        with pytest.raises(TrainingError, match=r"the teacher .* has changed since the run began"):
            train(plan, data, cut, start=load(learnt), resume=True)


def test_a_teacher_with_the_same_backbone_reads_cached_features(
    recipe: Make, data: Data, learnt: Path, tmp_path: Path
) -> None:
    """Each photo is encoded once, and the student approaches the teacher."""
    teacher, start = load(learnt), pupil(learnt)
    stage = {"task": "distillation", "epochs": 30, "batch_size": 8, "lr": 4e-3, "cache_features": True}
    plan = recipe({**stage, "validate_every": 30, "options": {"teacher": str(learnt / "best"), "share": 1.0}})
    with pytest.raises(ConfigError, match="has another backbone than the one whose features are cached"):
        train(plan, data, tmp_path / "other", start=pupil(learnt))
    start.model.vision.backbone.load_state_dict(teacher.model.vision.backbone.state_dict())
    train(plan, data, tmp_path / "run", start=start)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    nll = [record["token_nll"] for record in log if record["kind"] == "validation"]
    assert nll[-1] < nll[0] - 1
    assert list((tmp_path / "run" / "features").glob("*.npy"))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"ema": 0.0}, "distillation from the EMA of the weights needs an EMA; set ema"),
        ({"options": {"share": 2.0}}, "options.share must lie between 0 and 1"),
        ({"options": {"temperature": 0}}, "options.temperature must be above 0"),
        ({"options": {"top": -1}}, "options.top must be 0 or more"),
        ({"options": {"teacher": "there"}, "cache_features": True, "vision": "last:1"}, "or cache_features = false"),
    ],
)
def test_impossible_options(stage: dict[str, Any], message: str, recipe: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation.options_of(recipe({"task": "distillation", "ema": 0.9, **stage}).stages[0])


def test_a_teacher_of_other_words_or_pictures_is_refused(
    recipe: Make, data: Data, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    other = train_tokenizer([caption[::-1] for sample in data.train for caption in sample.captions], 320)
    save(replace(checkpoint, tokenizer=other), tmp_path / "words")
    plan = recipe({"task": "distillation", "options": {"teacher": str(tmp_path / "words")}})
    with pytest.raises(ConfigError, match="has another tokenizer, so its word distributions are of other words"):
        Distillation(plan, plan.stages[0], data, checkpoint.tokenizer)
    save(checkpoint, tmp_path / "pictures")
    plan = recipe({"task": "distillation", "options": {"teacher": str(tmp_path / "pictures")}}, preprocess={"size": 96})
    with pytest.raises(ConfigError, match=r"has another \[preprocess\] \(64 pixels, this run 96\)"):
        Distillation(plan, plan.stages[0], data, checkpoint.tokenizer)
    plan = recipe({"task": "distillation", "options": {"teacher": str(tmp_path / "pictures")}}, decoder={"context": 48})
    with pytest.raises(ConfigError, match="reads at most 32 tokens"):
        Distillation(plan, plan.stages[0], data, checkpoint.tokenizer)
