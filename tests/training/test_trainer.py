"""The training loop learns, and writes consistent results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load
from captioner.errors import ConfigError, DataError, ImageError, TrainingError, UsageError
from captioner.evaluation.evaluate import evaluate
from captioner.pipelines import CaptionPipeline
from captioner.training import trainer
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import TASKS, Data, cross_entropy
from captioner.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def losses(recipe: Recipe, data: Data, out: Path) -> list[float]:
    """Return the loss of each step of a new captioner."""
    Trainer(recipe, data, new_captioner(recipe, data), out, log_every=1).run()
    return [record["loss"] for record in records(out, "train")]


def state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return found


def scores(monkeypatch: pytest.MonkeyPatch, given: list[float]) -> None:
    """Let the validations return these scores, in turn."""
    turns = iter(given)
    figures = {"cider_d": 0.0}
    monkeypatch.setattr(cross_entropy.CrossEntropy, "validate", lambda *_: {"score": next(turns), **figures})


def test_eight_images_come_back_word_for_word(checkpoint: Checkpoint, data: Data) -> None:
    said = CaptionPipeline(checkpoint).caption([sample.path for sample in data.train], beams=1)
    assert [caption.text for caption in said] == [sample.captions[0] for sample in data.train]
    assert all(caption.score > math.log(0.7) for caption in said)


def test_accumulated_gradients_are_those_of_the_big_batch(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    """Parts with fewer words weigh less: the mean is over the words of the step."""
    whole = losses(recipe({"batch_size": 8, "epochs": 3}), data, tmp_path / "whole")
    parts = losses(recipe({"batch_size": 8, "epochs": 3, "accumulate": 4}), data, tmp_path / "parts")
    assert len(whole) == 3
    assert parts == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_features_give_the_losses_of_fresh_ones(
    recipe: MakeRecipe, data: Data, tmp_path: Path, workers: int
) -> None:
    fresh = losses(recipe({"epochs": 3}, workers=workers), data, tmp_path / "fresh")
    kept = losses(recipe({"epochs": 3, "cache_features": True}, workers=workers), data, tmp_path / "kept")
    assert kept == pytest.approx(fresh, abs=2e-3)  # kept in fp16
    assert len(list((tmp_path / "kept" / "features").iterdir())) == 2
    fresh, kept = (records(tmp_path / name, "validation")[-1]["token_nll"] for name in ("fresh", "kept"))
    assert kept == pytest.approx(fresh, abs=2e-3)


def test_kept_output_of_lower_layers_gives_the_losses_of_fresh_pixels(
    recipe: MakeRecipe, data: Data, tmp_path: Path
) -> None:
    stage = {"epochs": 3, "vision": "last:2", "vision_lr": 1e-3}
    fresh = losses(recipe(stage), data, tmp_path / "fresh")
    kept = losses(recipe({**stage, "cache_features": True}), data, tmp_path / "kept")
    assert kept == pytest.approx(fresh, abs=2e-3)
    fresh, kept = (load(tmp_path / name / "last").model.vision.backbone.state_dict() for name in ("fresh", "kept"))
    assert any(
        not value.equal(new_captioner(recipe(stage), data).model.vision.backbone.state_dict()[name])
        for name, value in kept.items()
    )
    for name, value in kept.items():
        torch.testing.assert_close(value, fresh[name], rtol=0, atol=5e-3)


def test_the_language_model_learns_words_and_leaves_the_image_half_alone(
    recipe: MakeRecipe, data: Data, tmp_path: Path
) -> None:
    plan = recipe({"task": "language_model", "epochs": 4, "batch_size": 8, "weight_decay": 0.5, "ema": 0.5})
    start = new_captioner(plan, data)
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    after = load(train(plan, data, tmp_path, start=start)).model.state_dict()
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    assert not [name for name in changed if name.startswith("vision.") or ".cross_" in name]
    assert changed == {name for name in after if name.startswith("decoder.") and ".cross_" not in name}
    nll = [record["token_nll"] for record in records(tmp_path, "validation")]
    assert nll[-1] < nll[0] - 0.2


def test_lines_beyond_the_context_count_with_their_words_within_it(recipe: MakeRecipe, data: Data) -> None:
    """Only the predicted words count, so a longer line does not lower the perplexity."""
    plan = recipe({"task": "language_model"})
    start = new_captioner(plan, data)
    found = []
    for lines in (60, 600):
        text = replace(data, validation_text=(" ".join(["a red dog"] * lines),))
        task = TASKS["language_model"](plan, plan.stages[0], text, start.tokenizer)
        found.append(task.validate(start.model.eval(), None, torch.device("cpu"))["word_perplexity"])
    assert found[0] == pytest.approx(found[1])


def test_stages_go_on_from_the_best_weights(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch of stage one is the best, so stage two begins with its weights."""
    begins: list[dict[str, torch.Tensor]] = []
    choose = trainer.choose_trained

    def remember(model: Any, *rest: Any) -> None:
        begins.append({name: value.clone() for name, value in model.state_dict().items()})
        choose(model, *rest)

    monkeypatch.setattr(trainer, "choose_trained", remember)
    scores(monkeypatch, [3.0, 2.0, 1.0])
    best = load(train(recipe({"epochs": 2}, {"epochs": 1}), data, tmp_path)).model.state_dict()
    assert all(value.equal(best[name]) for name, value in begins[1].items())
    assert any(not value.equal(best[name]) for name, value in begins[0].items())


def test_patience_ends_a_stage_and_best_is_the_best(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [5.0, 7.0, 6.0, 6.5, 9.0])
    best = train(recipe({"epochs": 10, "patience": 2}), data, tmp_path)
    assert [record["epoch"] for record in records(tmp_path, "validation")] == [1, 2, 3, 4]
    assert load(best).training["position"]["epoch"] == 2
    assert load(tmp_path / "last").training["position"]["epoch"] == 4
    kept = load(best).model.state_dict()
    assert all(value.equal(kept[name]) for name, value in state(tmp_path)["best"].items())


def test_the_best_checkpoint_is_what_the_validation_saw(recipe: MakeRecipe, data: Data, learnt: Path) -> None:
    found = records(learnt, "validation")[-1]
    checkpoint = load(learnt)
    one = [replace(sample, captions=sample.captions[:1]) for sample in data.train]
    again = evaluate(checkpoint, one)
    assert again.model.cider_d == pytest.approx(found["cider_d"], abs=1e-6)
    assert again.model.bleu.bleu4 == pytest.approx(found["bleu4"], abs=1e-6)
    assert checkpoint.training["held_out"]["token_nll"] == found["token_nll"]
    assert (checkpoint.training["images"], checkpoint.training["held_out_images"]) == (8, 8)
    assert f"| held out: bleu4 | {found['bleu4']:.2f} |" in checkpoint.card


def test_the_average_is_what_is_saved(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    train(recipe({"ema": 0.9}), data, tmp_path)
    last, end = load(tmp_path / "last").model.state_dict(), state(tmp_path)
    assert all(value.equal(end["average"][name]) for name, value in last.items())
    assert not last["decoder.final_norm.weight"].equal(end["model"]["decoder.final_norm.weight"])


def test_fine_tuning_is_never_worse_than_its_start(
    recipe: MakeRecipe, data: Data, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [5.0, 1.0, 2.0])
    before = load(learnt)
    before.card = "the card of the start"
    best = load(train(recipe({}), data, tmp_path, start=before))
    start = load(learnt)
    assert all(value.equal(start.model.state_dict()[name]) for name, value in best.model.state_dict().items())
    assert best.config == start.config
    assert "the card of the start" not in best.card


def test_a_single_held_out_image_still_tells_better_from_worse(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    """Its CIDEr-D is 0 for any caption: every word occurs in all references."""
    few = replace(data, validation=data.validation[:1])
    train(recipe({"epochs": 3, "batch_size": 8, "lr": 3e-3}), few, tmp_path)
    found = records(tmp_path, "validation")
    assert {record["cider_d"] for record in found} == {0.0}
    assert found[0]["token_nll"] > found[-1]["token_nll"]
    assert load(tmp_path).training["held_out"]["token_nll"] == found[-1]["token_nll"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda loss: loss * math.nan, "the loss became nan"),
        (lambda loss: loss * 1e9, "the loss became [0-9.]+e[+]09"),
        (lambda loss: loss + (loss - loss.detach()).abs().sqrt(), "the gradient became nan"),
    ],
)
def test_a_broken_step_stops_and_says_what_is_left(
    recipe: MakeRecipe,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[torch.Tensor], torch.Tensor],
    said: str,
) -> None:
    loss, calls = cross_entropy.weighted_cross_entropy, iter(range(99))

    def breaking(*args: Any, **options: Any) -> Any:
        found, nll = loss(*args, **options)
        return (damage(found) if next(calls) == 3 else found), nll

    monkeypatch.setattr(cross_entropy, "weighted_cross_entropy", breaking)
    with pytest.raises(TrainingError, match=f"^{said} at step 3 .*the last good checkpoint is") as caught:
        train(recipe({}), data, tmp_path)
    assert str(caught.value).endswith(f" is {tmp_path / 'best'}")
    assert sum(sample.name in str(caught.value) for sample in data.train) == 4
    assert load(tmp_path).training["position"]["total_step"] == 2


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_one_sentence(
    recipe: MakeRecipe, data: Data, tmp_path: Path, workers: int, cached: bool
) -> None:
    bad = replace(data, train=(*data.train[:-1], replace(data.train[-1], path=tmp_path / "gone.png")))
    with pytest.raises(ImageError, match=r"^cannot read [^\n]*gone\.png: there is no such file; repair it or [^\n]*$"):
        train(recipe({"cache_features": cached}, workers=workers), bad, tmp_path / "run")


@pytest.mark.parametrize("held", ["state.pt", "best", "config.json"])
def test_a_run_or_captioner_that_is_there_is_not_overwritten(
    recipe: MakeRecipe, data: Data, tmp_path: Path, held: str
) -> None:
    (tmp_path / held).touch()
    with pytest.raises(UsageError, match=r"holds a .*; .*choose another --out"):
        train(recipe(), data, tmp_path)


def test_what_would_fail_later_fails_first(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no task 'cross_entopy' for a stage; did you mean cross_entropy\?"):
        train(recipe({}, {"task": "cross_entopy"}), data, tmp_path)
    with pytest.raises(DataError, match=r"language_model learns from text; .*--text"):
        train(recipe({}, {"task": "language_model"}), replace(data, text=()), tmp_path)
    with pytest.raises(ConfigError, match=r"precision fp16 needs a GPU"):
        train(recipe(precision="fp16"), data, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write to .*file.*; choose another --out"):
        train(recipe(), data, tmp_path / "file" / "run")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_every_stage_computes_in_the_precision(
    recipe: MakeRecipe, data: Data, tmp_path: Path, precision: str, dtype: torch.dtype
) -> None:
    """Two precisions run in one process: accelerate remembers the first."""
    plan = recipe({"epochs": 1}, {"epochs": 1, "checkpointing": True}, precision=precision)
    start = new_captioner(plan, data)
    seen: list[torch.dtype] = []
    start.model.decoder.register_forward_hook(
        lambda module, _, out: seen.append(out.dtype) if module.training else None
    )
    Trainer(plan, data, start, tmp_path).run()
    assert seen == [dtype] * 4


def test_what_training_makes_untrue_is_not_inherited(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    start = new_captioner(recipe(), data)
    pruned = {"heads": [4, 2]}
    start.training.update(averaged=[{"source": "a", "share": 1.0}], compressed={"pruned": pruned, "weights": "int8"})
    best = train(recipe({"epochs": 1}), data, tmp_path / "out", start=start)
    training = load(best).training
    assert "averaged" not in training
    assert training["compressed"] == {"pruned": pruned}
    assert "average" not in (best / "README.md").read_text(encoding="utf-8")
