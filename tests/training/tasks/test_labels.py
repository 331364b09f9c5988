"""Labels are learnt, and the decoder reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from captioner.checkpoint import load, save
from captioner.config import DecoderConfig, LabelsConfig
from captioner.errors import ConfigError
from captioner.models.captioner import Captioner
from captioner.models.labels import Labeller
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data
from captioner.training.tasks.labels import Labels, read_words
from captioner.training.teachers import LISTS, imagenet_groups

MakeRecipe = Callable[..., Recipe]
SHAPES = ("circle", "square", "triangle", "elephant")


@pytest.fixture
def words(tmp_path: Path) -> str:
    (tmp_path / "words.txt").write_text("\n".join(SHAPES) + "\n")
    return str(tmp_path / "words.txt")


def test_labels_are_learnt_with_the_captions(recipe: MakeRecipe, data: Data, tmp_path: Path, words: str) -> None:
    plan = recipe({"task": "labels", "epochs": 6, "options": {"words": words, "count": 2}})
    start = new_captioner(plan, data)
    best = load(train(plan, data, tmp_path / "run", start=start))
    assert best.config.labels is not None
    assert best.config.labels.words == SHAPES
    assert best.config.labels.count == 2
    encoded = best.model.eval().encode_image(
        torch.randn(3, 3, best.config.preprocess.size, best.config.preprocess.size)
    )
    assert encoded.prefix == 2
    assert encoded.tokens.shape[1] == 2 + encoded.grid[0] * encoded.grid[1]
    assert encoded.labels is not None
    assert encoded.labels.shape == (3, 4)
    assert (encoded.labels[:, 3] < 0).all(), "no caption names an elephant"
    said = [line for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines() if "label_recall" in line]
    assert said
    again = load(save(best, tmp_path / "copy"))
    assert all(value.equal(again.model.state_dict()[name]) for name, value in best.model.state_dict().items())


def test_the_named_labels_are_those_of_the_captions(recipe: MakeRecipe, data: Data, words: str) -> None:
    plan = recipe({"task": "labels", "options": {"words": words}})
    checkpoint = new_captioner(plan, data)
    assert Labels.equip(plan, plan.stages[0], data, checkpoint)
    assert not Labels.equip(plan, plan.stages[0], data, checkpoint), "the labeller that is there stays"
    task = Labels(plan, plan.stages[0], data, checkpoint.tokenizer)
    task.begin(checkpoint.model, checkpoint.model)
    items = task.items(None)
    batch = task.prepare(checkpoint.model, task.collate()([items[n, 0] for n in range(4)]))
    for row, sample in zip(batch.extra["labels"].tolist(), data.train, strict=False):
        assert row == [float(any(shape in caption for caption in sample.captions)) for shape in SHAPES]


def test_labels_start_as_the_classes_of_a_classifier(tmp_path: Path) -> None:
    labeller = Labeller(
        LabelsConfig(words=("dog", "cat", "zebra"), tokens=((1,), (2,), (3,))),
        4,
        DecoderConfig(vocab_size=4, width=8, heads=2),
    )
    weight, bias = torch.randn(1000, 4), torch.zeros(1000)
    groups = imagenet_groups(("dog", "cat", "bench press"))
    assert (groups[0][0], groups[0][-1], len(groups[0])) == (151, 275, 121)
    assert 2 not in groups
    before = labeller.classify.weight[2].clone()
    labeller.initialise(weight, bias, groups)
    torch.testing.assert_close(labeller.classify.weight[1, :4], weight[groups[1]].mean(0) - weight.mean(0))
    assert labeller.classify.weight[2].equal(before)
    save_file({"classifier.weight": weight}, tmp_path / "half.safetensors")


def test_every_shipped_list_names_everyday_words_and_every_class_is_known() -> None:
    words = read_words("everyday")
    assert len(set(words)) == len(words) > 500
    groups = imagenet_groups(words)
    assert all(0 <= n < 1000 for classes in groups.values() for n in classes)
    unknown = [line for line in (LISTS / "imagenet.txt").read_text().splitlines() if line.split(":")[0] not in words]
    assert not unknown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\n \n", "are empty"),
        (b"\xff", "cannot"),
        (b"dog\n42\n", "'42' in .* has no letters"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_words(str(tmp_path / "words.txt"))


def test_tokens_outside_the_vocabulary_are_refused(recipe: MakeRecipe, data: Data) -> None:
    config = new_captioner(recipe(), data).config
    with pytest.raises(ConfigError, match="vocabulary"):
        replace(config, labels=LabelsConfig(words=("dog",), tokens=((10**9,),)))


def classifier_of(model: Captioner, path: Path, bias: dict[int, float]) -> str:
    """Write a timm file of the model's backbone and of a classifier with constant probabilities; return its name."""
    chances = torch.full((1000,), 1e-9)
    for number, chance in bias.items():
        chances[number] = chance
    weights = {name: value.contiguous() for name, value in model.vision.backbone.state_dict().items()}
    weights["classifier.weight"] = torch.zeros(1000, model.vision.channels)
    save_file({**weights, "classifier.bias": chances.log()}, path)
    return str(path)


def test_the_teacher_is_the_target_of_labels_without_a_mention(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("circle\nzebra\nbus\nkite\n")
    plain = recipe({"task": "labels"})
    file = classifier_of(
        new_captioner(plain, data).model, tmp_path / "w.safetensors", {340: 0.5, 654: 0.1, 779: 0.2, 0: 0.2}
    )
    options = {"words": str(tmp_path / "words.txt"), "classifier": file, "teacher": 0.5}
    for vision in ("frozen", "last:1"):
        plan = recipe({"task": "labels", "vision": vision, "options": options}, vision_weights=file)
        checkpoint = new_captioner(plan, data)
        assert Labels.equip(plan, plan.stages[0], data, checkpoint)
        task = Labels(plan, plan.stages[0], data, checkpoint.tokenizer)
        task.begin(checkpoint.model, checkpoint.model)
        items = task.items(None)
        batch = task.prepare(checkpoint.model, task.collate()([items[n, 0] for n in range(4)]))
        for row, sample in zip(batch.extra["labels"], data.train, strict=False):
            circle = float(any("circle" in caption for caption in sample.captions))
            torch.testing.assert_close(row, torch.tensor([circle, 0.25, 0.15, 0.0]))  # 0.5 x (0.5, 0.1 + 0.2, none)
        losses = task.loss(checkpoint.model, batch)
        assert losses["loss"].isfinite()


def test_a_frozen_backbone_of_other_weights_cannot_be_read_by_the_teacher(
    recipe: MakeRecipe, data: Data, tmp_path: Path, words: str
) -> None:
    file = classifier_of(new_captioner(recipe(), data).model, tmp_path / "w.safetensors", {340: 1.0})
    plan = recipe({"task": "labels", "options": {"words": words, "classifier": file, "teacher": 1.0}}, seed=5)
    checkpoint = new_captioner(plan, data)
    Labels.equip(plan, plan.stages[0], data, checkpoint)
    task = Labels(plan, plan.stages[0], data, checkpoint.tokenizer)
    with pytest.raises(ConfigError, match="the frozen backbone does not have the weights in"):
        task.begin(checkpoint.model, checkpoint.model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": 2.0, "classifier": "x"}, "options.teacher must lie between 0 and 1, not 2"),
        ({"teacher": 0.5}, "options.teacher needs an ImageNet classifier; set options.classifier"),
    ],
)
def test_a_teacher_has_a_share_and_a_file(recipe: MakeRecipe, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Labels.options_of(recipe({"task": "labels", "options": options}).stages[0])


@pytest.mark.parametrize("shape", [(1000, 7), (100, 320), (9,)])
def test_the_classifier_of_another_backbone(
    shape: tuple[int, ...], recipe: MakeRecipe, data: Data, tmp_path: Path
) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"classifier.weight": torch.zeros(shape), "classifier.bias": torch.zeros(shape[0])}, file)
    plan = recipe({"task": "labels", "options": {"classifier": str(file)}})
    with pytest.raises(ConfigError, match=r"has shape .* instead of \(1000, \d+\)"):
        Labels.equip(plan, plan.stages[0], data, new_captioner(plan, data))
