"""Convolutions with folded norms give the same output and gradients as the separate layers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captioner.config import PreprocessConfig, VisionConfig
from captioner.models.vision import VisionEncoder
from captioner.training.convolutions import folded
from captioner.training.optim import choose_trained
from captioner.training.recipe import Recipe, Stage
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data


def encoder(name: str) -> VisionEncoder:
    torch.manual_seed(0)
    vision = VisionEncoder(VisionConfig(backbone=name), PreprocessConfig(size=96), 32)
    for module in vision.backbone.modules():  # statistics and scales unlike those of a new norm
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.running_mean, module.bias):
                torch.nn.init.normal_(value, std=0.1)
            for value in (module.running_var, module.weight):
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return vision.train()


def gradients(vision: VisionEncoder, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    vision.zero_grad(set_to_none=True)
    out = vision.features(pixels).values
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return out.detach(), {name: p.grad for name, p in vision.backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0", "test_convnext"])
def test_the_same_output_and_gradients(name: str) -> None:
    vision = encoder(name)
    pixels = torch.randn(2, 3, 96, 96).double()
    with folded(vision, 96):
        assert vision.backbone_folded == (name != "test_convnext")  # it has no batch norms
        vision.double()  # a rounding error at a kink of relu would be another gradient
        out, found = gradients(vision, pixels)
    plain, wanted = gradients(vision, pixels)
    torch.testing.assert_close(out, plain)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name
    assert not any("forward" in vars(module) for module in vision.backbone.modules())


def test_a_copy_folds_its_own_weights() -> None:
    vision = encoder("test_efficientnet")
    pixels = torch.randn(1, 3, 96, 96)
    with folded(vision, 96):
        other = copy.deepcopy(vision)
        before = other.features(pixels).values
        with torch.no_grad():
            for parameter in vision.backbone.parameters():
                parameter.zero_()
        assert torch.equal(other.features(pixels).values, before)


def test_under_autocast_the_products_are_in_half_precision() -> None:
    vision = encoder("test_efficientnet")
    with torch.autocast("cpu", torch.bfloat16):
        assert vision.features(torch.randn(1, 3, 96, 96)).values.dtype == torch.float32
        with folded(vision, 96):
            out, found = gradients(vision, torch.randn(2, 3, 96, 96))
    assert out.dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in found.values())


def test_depthwise_kernels_may_stay(recipe: Callable[..., Recipe], data: Data) -> None:
    model = new_captioner(recipe({}), data).model
    for depthwise in (True, False):
        stage = Stage(vision="all", depthwise=depthwise)
        choose_trained(model, stage, lambda name: True)
        trained = {name for name, p in model.vision.backbone.named_parameters() if p.requires_grad}
        assert ("blocks.3.0.conv_dw.weight" in trained) == depthwise
        assert ("blocks.3.0.bn2.weight" in trained) == depthwise  # its scale is the kernel's
        assert {"blocks.3.0.conv_pw.weight", "blocks.3.0.bn2.bias", "blocks.3.0.bn1.weight"} <= trained


class Subtracted(torch.nn.Conv2d):
    """A convolution whose output is not that of its weights alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - 0.5


def test_a_convolution_that_cannot_be_folded_stays() -> None:
    vision = encoder("test_efficientnet")
    vision.backbone.get_submodule("blocks.3.0.conv_pw").__class__ = Subtracted
    pixels = torch.randn(2, 3, 96, 96)
    plain, _ = gradients(vision, pixels)
    with folded(vision, 96):
        assert not vision.backbone_folded
        assert vision.training
        out, _ = gradients(vision, pixels)
    assert torch.equal(out, plain)
