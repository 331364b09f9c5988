"""An ImageNet classifier as a second source of labels, on blocks that it shares with the captioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.checkpoint import Checkpoint, load, save
from captioner.config import ClassifierConfig, LabelsConfig
from captioner.errors import ConfigError
from captioner.inference import prepare
from captioner.models.captioner import Captioner
from captioner.models.classifier import SLOPE, UNKNOWN
from captioner.training.classifier import add_classifier, copy_trained_blocks, often_named
from captioner.training.optim import choose_trained
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data
from captioner.training.tasks.labels import Labels

MakeRecipe = Callable[..., Recipe]
WORDS = ("circle", "zebra", "dog")


@pytest.fixture
def file(recipe: MakeRecipe, data: Data, tmp_path: Path) -> Path:
    """Return a timm file with the weights of a captioner of ``recipe``, and a random classifier."""
    model = new_captioner(recipe(), data).model
    weights = {name: value.contiguous() for name, value in model.vision.backbone.state_dict().items()}
    torch.manual_seed(5)
    weights["classifier.weight"] = torch.randn(1000, model.vision.channels)
    weights["classifier.bias"] = torch.randn(1000)
    save_file(weights, tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"


@pytest.fixture
def labelled(recipe: MakeRecipe, data: Data, tmp_path: Path) -> Checkpoint:
    """Return a captioner with a labeller, whose upper blocks differ from those in ``file``."""
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    plan = recipe({"task": "labels", "options": {"words": str(tmp_path / "words.txt"), "count": 2}})
    checkpoint = new_captioner(plan, data)
    assert Labels.equip(plan, plan.stages[0], data, checkpoint)
    with torch.no_grad():
        for name, value in checkpoint.model.vision.backbone.named_parameters():
            if name.startswith(("blocks.4", "blocks.5", "conv_head")):
                value += 0.1 * torch.randn_like(value)
    checkpoint.model.eval()
    return checkpoint


def pixels_of(model: Captioner, count: int = 3) -> torch.Tensor:
    size = model.config.preprocess.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def test_labels_are_the_larger_of_both(labelled: Checkpoint, file: Path, recipe: MakeRecipe, data: Data) -> None:
    model, pixels = labelled.model, pixels_of(labelled.model)
    before = model.encode_image(pixels)
    assert before.labels is not None
    add_classifier(model, file)
    model.eval()
    assert model.config.labels is not None
    classifier = model.config.labels.classifier
    assert classifier is not None
    assert (classifier.blocks, classifier.count, classifier.classes[:2]) == (4, 1000, ((), (340,)))
    assert len(classifier.classes[2]) > 100
    after = model.encode_image(pixels)
    assert after.labels is not None

    untouched = new_captioner(recipe(), data).model.eval()  # the backbone of the file
    weights = load_file(file)
    pooled = untouched.vision.features(pixels).values.mean(1)
    chances = (pooled @ weights["classifier.weight"].T + weights["classifier.bias"]).softmax(-1)
    zebra = SLOPE * chances[:, 340].clamp(1e-5, 1 - 1e-4).logit()
    dog = SLOPE * chances[:, list(classifier.classes[2])].sum(1).clamp(1e-5, 1 - 1e-4).logit()
    circle = torch.full_like(zebra, UNKNOWN)
    expected = torch.maximum(before.labels, torch.stack([circle, zebra, dog], dim=1))
    torch.testing.assert_close(after.labels, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.tokens[:, 2:], before.tokens[:, 2:])  # the patches are the captioner's


def test_labels_that_captions_teach_are_left_to_the_labeller(labelled: Checkpoint, file: Path, data: Data) -> None:
    dogs = [replace(sample, captions=("two dogs", "a dog and a circle")) for sample in data.train[:2]]
    zebra = replace(data.train[0], captions=("a zebra", "a doghouse"))
    assert often_named(("circle", "zebra", "dog"), [*dogs, *[zebra] * 98]) == [True, True, True]
    captioned = [*dogs, zebra, *[replace(zebra, captions=("grass",))] * 97]  # 2, 1 and 2 %
    assert often_named(("circle", "zebra", "dog"), captioned) == [True, False, True]
    add_classifier(labelled.model, file, captioned)
    assert labelled.model.config.labels is not None
    assert labelled.model.config.labels.classifier is not None
    assert labelled.model.config.labels.classifier.classes == ((), (340,), ())


@pytest.mark.parametrize("training", [False, True])
def test_an_added_classifier_keeps_its_statistics(labelled: Checkpoint, file: Path, training: bool) -> None:
    model = labelled.model.train(training)
    add_classifier(model, file)
    assert model.labeller is not None
    assert model.labeller.training is training
    before = {name: value.clone() for name, value in model.labeller.classifier.state_dict().items()}  # type: ignore[union-attr]
    model.encode_image(pixels_of(model))
    for name, value in model.labeller.classifier.state_dict().items():  # type: ignore[union-attr]
        assert value.equal(before[name]), name


def test_label_tokens_that_no_decoder_reads_start_anew(labelled: Checkpoint, file: Path) -> None:
    model = labelled.model
    assert model.config.labels is not None
    assert model.labeller is not None
    classify, proj = model.labeller.classify.weight.clone(), model.labeller.proj.weight.clone()
    model.config = replace(model.config, labels=replace(model.config.labels, scaled=False))
    with torch.no_grad():
        model.labeller.proj.weight.normal_()
    add_classifier(model, file)
    assert model.config.labels.scaled
    assert model.labeller.classify.weight.equal(classify)
    torch.testing.assert_close(model.labeller.proj.weight, proj)  # aligned with the decoder, as it was made


def test_a_checkpoint_keeps_its_classifier(labelled: Checkpoint, file: Path, tmp_path: Path) -> None:
    add_classifier(labelled.model, file)
    pixels = pixels_of(labelled.model.eval(), 10)  # more than one part
    labels = labelled.model.encode_image(pixels).labels
    assert labels is not None
    again = load(save(replace(labelled, model=labelled.model), tmp_path / "saved"))
    found = again.model.eval().encode_image(pixels).labels
    assert found is not None
    torch.testing.assert_close(found, labels, rtol=1e-3, atol=2e-3)  # saved in fp16
    fast = prepare(again, "fp32").model
    with torch.inference_mode():
        prepared = fast.encode_image(pixels).labels
    assert prepared is not None
    torch.testing.assert_close(prepared, found, rtol=1e-3, atol=1e-3)
    norms = [m for m in fast.labeller.classifier.upper.modules() if isinstance(m, torch.nn.BatchNorm2d)]  # type: ignore[union-attr]
    assert not norms, "its batch norms are folded too"


@pytest.mark.parametrize(
    "settings",
    [{"vision": "frozen"}, {"vision": "frozen", "cache_features": True}, {"vision": "last:1", "cache_features": True}],
)
def test_training_keeps_the_classifier(
    labelled: Checkpoint, file: Path, recipe: MakeRecipe, data: Data, tmp_path: Path, settings: dict[str, object]
) -> None:
    add_classifier(labelled.model, file)
    plan = recipe({"task": "labels", "options": {"exchanged": 0.5}, **settings})
    before = {name: value.clone() for name, value in labelled.model.state_dict().items()}
    after = load(train(plan, data, tmp_path / "run", start=labelled)).model.state_dict()
    kept = [name for name in before if name.startswith("labeller.classifier.")]
    assert kept
    for name in kept:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-3)
    assert not after["labeller.classify.weight"].allclose(before["labeller.classify.weight"])
    assert not after["decoder.token_embedding.weight"].allclose(before["decoder.token_embedding.weight"])


def test_shared_blocks_are_not_trained(labelled: Checkpoint, file: Path, recipe: MakeRecipe) -> None:
    add_classifier(labelled.model, file)
    with pytest.raises(ConfigError, match="shares the first layers of the backbone, so they cannot be trained; set"):
        choose_trained(labelled.model, recipe({"vision": "all"}).stages[0], lambda name: True)
    choose_trained(labelled.model, recipe({"vision": "last:1"}).stages[0], lambda name: True)
    trained = {name for name, value in labelled.model.named_parameters() if value.requires_grad}
    assert any(name.startswith("vision.backbone.") for name in trained)
    assert not any(name.startswith("labeller.classifier.") for name in trained)


def test_the_classifier_gets_its_own_copy_of_blocks_that_are_trained(labelled: Checkpoint, file: Path) -> None:
    add_classifier(labelled.model, file)
    model, pixels = labelled.model.eval(), pixels_of(labelled.model)
    before = model.encode_image(pixels)
    copy_trained_blocks(model, ["blocks.4.0.conv.weight", "conv_head.weight"])
    assert model.vision.shared_blocks == 4
    copy_trained_blocks(model, ["blocks.3.0.conv.weight", "blocks.2.1.conv.weight"])
    assert model.vision.shared_blocks == 2
    after = model.eval().encode_image(pixels)
    torch.testing.assert_close(after.labels, before.labels)
    torch.testing.assert_close(after.tokens, before.tokens)
    features = model.vision.features(pixels)
    assert model.labeller is not None
    log_odds = model.labeller.classifier(features.lower)  # type: ignore[misc]
    for name, value in model.vision.backbone.named_parameters():
        if name.startswith(("blocks.2.", "blocks.3.")):
            value.data += 1.0
    torch.testing.assert_close(model.labeller.classifier(features.lower), log_odds)  # type: ignore[misc, union-attr]
    copy_trained_blocks(model, ["conv_stem.weight", "blocks.0.0.conv.weight"])
    assert model.vision.shared_blocks == 1


def test_a_run_may_train_blocks_that_the_classifier_shared(
    labelled: Checkpoint, file: Path, recipe: MakeRecipe, data: Data, tmp_path: Path
) -> None:
    add_classifier(labelled.model, file)
    best = load(train(recipe({"vision": "last:4"}), data, tmp_path / "run", start=labelled))
    assert best.config.labels is not None
    assert best.config.labels.classifier is not None
    assert best.config.labels.classifier.blocks < 4
    assert best.model.encode_image(pixels_of(best.model)).labels is not None


def test_cached_lower_features_give_the_same_labels(labelled: Checkpoint, file: Path) -> None:
    add_classifier(labelled.model, file)
    model, pixels = labelled.model.eval(), pixels_of(labelled.model)
    whole = model.encode_image(pixels).labels
    for blocks in (2, 4):
        found = model.encode_features(model.vision.lower_features(pixels, blocks)).labels
        assert found is not None
        torch.testing.assert_close(found, whole)


def test_a_backbone_without_a_common_block(labelled: Checkpoint, file: Path) -> None:
    with torch.no_grad():
        labelled.model.vision.backbone.conv_stem.weight += 1.0  # type: ignore[union-attr, operator]
    with pytest.raises(ConfigError, match=r"has no block in common with .*; name the weights that its training"):
        add_classifier(labelled.model, file)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 5, "classes": ((5,),)}, "must hold numbers from 0 to 4"),
        ({"count": 5, "classes": ((), ())}, "must hold the classes of each of labels.words"),
        ({"blocks": 0, "count": 5, "classes": ((),)}, "blocks must be at least 1"),
    ],
)
def test_a_config_that_does_not_fit(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LabelsConfig(words=("dog",), tokens=((1,),), classifier=ClassifierConfig(**{"blocks": 2, **values}))  # type: ignore[arg-type]
