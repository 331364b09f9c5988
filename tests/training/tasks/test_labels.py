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
from captioner.models.labels import Labeller
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data
from captioner.training.tasks.labels import LISTS, Labels, imagenet_groups, read_words

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
    labeller.start_from(weight, bias, groups)
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


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"\n \n", "are empty"), (b"\xff", "cannot")])
def test_a_list_that_is_none_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_words(str(tmp_path / "words.txt"))


def test_tokens_outside_the_vocabulary_are_refused(recipe: MakeRecipe, data: Data) -> None:
    config = new_captioner(recipe(), data).config
    with pytest.raises(ConfigError, match="vocabulary"):
        replace(config, labels=LabelsConfig(words=("dog",), tokens=((10**9,),)))
