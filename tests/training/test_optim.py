"""Trained parameters, the learning rate schedule, and the EMA of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from captioner.config import CaptionerConfig, DecoderConfig, PreprocessConfig, TextConfig, VisionConfig
from captioner.errors import ConfigError
from captioner.models.captioner import Captioner
from captioner.training.optim import choose_trained, make_optimizer, set_checkpointing, set_rate, update_average
from captioner.training.recipe import Stage


def everything(name: str) -> bool:
    return True


@pytest.fixture
def build() -> Callable[..., Captioner]:
    def make(backbone: str = "test_efficientnet", dropout: float = 0.0) -> Captioner:
        torch.manual_seed(0)
        decoder = DecoderConfig(vocab_size=17, context=8, width=16, layers=2, heads=2, dropout=dropout)
        text = TextConfig(bos_id=1, eos_id=2, pad_id=0)
        vision, size = VisionConfig(backbone=backbone), PreprocessConfig(size=64)
        return Captioner(CaptionerConfig(vision=vision, decoder=decoder, text=text, preprocess=size))

    return make


def trained(model: Captioner) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients(model: Captioner) -> dict[str, torch.Tensor]:
    """Return the gradients of one batch, with dropout from the same seed each time."""
    torch.manual_seed(3)
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(17, (2, 3, 6))
    model.zero_grad()
    model.train()
    model(tokens, pixels).logits.square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_stage_trains_only_the_named_parts(build: Callable[..., Captioner]) -> None:
    model = build()
    choose_trained(model, Stage(only=(".cross_attn.", "lm_head"), vision="last:1"), everything)
    outside = {name for name in trained(model) if not name.startswith("vision.backbone.")}
    every = {name for name, _ in model.named_parameters()}
    assert outside == {name for name in every if ".cross_attn." in name or "lm_head" in name}
    assert trained(model) - outside, "the backbone has a setting of its own"
    with pytest.raises(ConfigError, match="no trained parameter has 'labeller' or 'no such' in its name"):
        choose_trained(model, Stage(only=("labeller", "no such")), everything)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("vision", ["frozen", "all", "last:1", "last:3"])
def test_exactly_what_is_trained_gets_a_gradient(build: Callable[..., Captioner], backbone: str, vision: str) -> None:
    """A trained parameter without a gradient would stall DDP: ConvNeXt keeps a norm for its head."""
    model = build(backbone)
    choose_trained(model, Stage(vision=vision), everything)
    assert gradients(model).keys() == trained(model)
    inside = {name for name in trained(model) if name.startswith("vision.backbone.")}
    assert bool(inside) == (vision != "frozen")


@pytest.mark.parametrize(
    ("backbone", "stems"),
    [("test_efficientnet", ["blocks.4.", "conv_head", "bn2"]), ("test_convnext", ["stages.3."])],
)
def test_last_means_the_last_groups(build: Callable[..., Captioner], backbone: str, stems: list[str]) -> None:
    model = build(backbone)
    choose_trained(model, Stage(vision="last:1"), everything)
    names = [name.removeprefix("vision.backbone.") for name in trained(model) if name.startswith("vision.backbone.")]
    assert {stem for name in names for stem in stems if name.startswith(stem)} == set(stems)
    assert all(name.startswith(tuple(stems)) for name in names)


def test_a_frozen_backbone_says_the_same_after_training(build: Callable[..., Captioner]) -> None:
    """This includes BatchNorm's statistics, which test_efficientnet has."""
    model = build()
    pixels = torch.randn(4, 3, 64, 64)
    before = model.vision.eval().features(pixels).values
    choose_trained(model, Stage(), everything)
    optimizer = make_optimizer([model], Stage(weight_decay=0.5))
    for _ in range(3):
        gradients(model)
        optimizer.step()
    assert model.vision.eval().features(pixels).values.equal(before)


@pytest.mark.parametrize("vision", ["all", "last:1"])
def test_batch_norm_statistics_never_move(build: Callable[..., Captioner], vision: str) -> None:
    model = build()
    before = {name: value.clone() for name, value in model.named_buffers()}
    assert any("running_mean" in name for name in before)
    choose_trained(model, Stage(vision=vision), everything)
    gradients(model)
    assert all(value.equal(before[name]) for name, value in model.named_buffers())


def test_norms_and_biases_do_not_decay_and_the_backbone_has_its_rate(build: Callable[..., Captioner]) -> None:
    model = build()
    stage = Stage(vision="all", lr=1e-3, vision_lr=1e-5, weight_decay=0.1)
    choose_trained(model, stage, everything)
    optimizer = make_optimizer([model], stage)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            seen += 1
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
            assert group["peak"] == (1e-5 if names[id(parameter)].startswith("vision.backbone.") else 1e-3)
    assert seen == len(trained(model))


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "peak": 2.0}], lr=1.0)
    stage = Stage(warmup=0.1, final_lr=0.25)
    rates = [set_rate(optimizer, stage, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(2.0 * (0.25 + 0.75 / 2), abs=1e-6)
    assert rates[-1] == pytest.approx(2.0 * (0.25 + 0.75 * (1 + math.cos(math.pi * 89 / 90)) / 2))
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_the_average_of_the_weights() -> None:
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
        average.weight.fill_(0.0)
    update_average(average, model, 0.9, 1)  # (1 + 1) / (10 + 1) of the old: it starts fast
    assert average.weight.item() == pytest.approx(9 / 11)
    update_average(average, model, 0.9, 10_000)
    assert average.weight.item() == pytest.approx(0.9 * 9 / 11 + 0.1)
    update_average(average, model, 0.0, 10_000)
    assert average.weight.equal(model.weight)


def test_gradient_checkpointing_changes_no_gradient(build: Callable[..., Captioner]) -> None:
    stage = Stage(vision="all", checkpointing=True)
    model = build("test_vit", dropout=0.3)
    choose_trained(model, stage, everything)
    kept = gradients(model)
    set_checkpointing(model, stage)
    assert model.decoder.checkpointing
    assert model.vision.backbone.grad_checkpointing
    again = gradients(model)
    assert kept.keys() == again.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, msg=name)
    set_checkpointing(model, replace(stage, checkpointing=False))
    assert not model.vision.backbone.grad_checkpointing
