"""Folding of a backbone's batch norms into the convolutions before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.models.labels import Labeller
from captioner.models.vision import VisionEncoder, block_input

SAME = 1e-3  # tolerance relative to the largest feature: rounding is two orders below it, a wrong fold is above it


@dataclass(frozen=True, kw_only=True)
class UsedLayers:
    """The layers of a backbone that an image passes through, by name, and the features of that image.

    ``pairs`` are convolutions and the norms that read them; a layer that is used more than once is in no pair.
    """

    pairs: tuple[tuple[str, str], ...]
    linears: tuple[str, ...]
    features: Tensor


@torch.no_grad()
def fold_norms(vision: VisionEncoder, size: int) -> list[str]:
    """Fold each batch norm of the backbone into the convolution before it; return the names of the linear layers used.

    Nothing is folded if that changes the features of an image.
    """
    return _fold(vision.backbone, lambda: _features(vision, size))


@torch.no_grad()
def fold_all_norms(vision: VisionEncoder, labeller: Labeller | None, size: int) -> list[str]:
    """Do as ``fold_norms``, and fold the norms of the classifier of ``labeller`` too, if it has one."""
    linears = fold_norms(vision, size)
    if labeller is not None and (classifier := labeller.classifier) is not None:
        lower = vision.features(_pixels(vision, size)).lower
        assert lower is not None
        _fold(classifier.upper, lambda: classifier.upper(block_input(lower, classifier.upper)))
    return linears


def _fold(backbone: nn.Module, run: Callable[[], Tensor]) -> list[str]:
    used = _used(backbone, run)
    old = {name: backbone.get_submodule(name) for pair in used.pairs for name in pair}
    for conv, norm in used.pairs:
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, old[conv]), cast(nn.BatchNorm2d, old[norm]))
        backbone.set_submodule(conv, fused)
        # timm's batch norms apply the activation too
        backbone.set_submodule(norm, cast(nn.Module, getattr(old[norm], "act", nn.Identity())))
    if used.pairs and not _same(run(), used.features):
        for name, module in old.items():
            backbone.set_submodule(name, module)
    return list(used.linears)


@torch.no_grad()
def used_layers(vision: VisionEncoder, size: int) -> UsedLayers:
    """Return the layers that an image of ``size`` pixels passes through."""
    return _used(vision.backbone, lambda: _features(vision, size))


def _used(backbone: nn.Module, run: Callable[[], Tensor]) -> UsedLayers:
    made: dict[int, tuple[str, Tensor]] = {}  # outputs of convolutions, kept so that no other takes their address
    pairs: list[tuple[str, str]] = []
    linears: set[str] = set()
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            if isinstance(module, nn.Linear):
                linears.add(name)
            elif isinstance(module, nn.Conv2d):
                made[id(out)] = name, out
            elif inputs and id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], name))

        hooks.append(module.register_forward_hook(after))

    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)):
            watch(name, module)
    features = run()
    for hook in hooks:
        hook.remove()
    names = [name for pair in pairs for name in pair]
    once = tuple(pair for pair in pairs if names.count(pair[0]) == names.count(pair[1]) == 1)
    return UsedLayers(pairs=once, linears=tuple(sorted(linears)), features=features)


@torch.no_grad()
def same_features(vision: VisionEncoder, size: int, before: Tensor) -> bool:
    """Return whether the image of ``used_layers`` still has the features ``before``, but for rounding."""
    return _same(_features(vision, size), before)


def _same(after: Tensor, before: Tensor) -> bool:
    return bool((after - before).abs().max() <= SAME * before.abs().max())


def _features(vision: VisionEncoder, size: int) -> Tensor:
    return vision.features(_pixels(vision, size)).values


def _pixels(vision: VisionEncoder, size: int) -> Tensor:
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return pixels.to(next(vision.backbone.parameters()).device)
