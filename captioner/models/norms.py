"""Folding of a backbone's batch norms into the convolutions before them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.models.vision import VisionEncoder

SAME = 1e-3  # tolerance relative to the largest feature: rounding is two orders below it, a wrong fold is above it


@torch.no_grad()
def fold_norms(vision: VisionEncoder, size: int) -> list[str]:
    """Fold each batch norm of the backbone into the convolution before it; return the names of the linear layers used.

    Nothing is folded if that changes the features of an image.
    """
    backbone = vision.backbone
    before = _features(vision, size)
    pairs, linears = watched(vision, size)
    old = {name: backbone.get_submodule(name) for pair in pairs for name in pair}
    for conv, norm in pairs:
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, old[conv]), cast(nn.BatchNorm2d, old[norm]))
        backbone.set_submodule(conv, fused)
        # timm's batch norms apply the activation too
        backbone.set_submodule(norm, cast(nn.Module, getattr(old[norm], "act", nn.Identity())))
    if pairs and not (_features(vision, size) - before).abs().max() <= SAME * before.abs().max():
        for name, module in old.items():
            backbone.set_submodule(name, module)
    return linears


@torch.no_grad()
def watched(vision: VisionEncoder, size: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Run one image; return the name pairs (convolution, norm after it) and the names of the linear layers used.

    A layer that is used more than once is in no pair.
    """
    backbone = vision.backbone
    made: dict[int, tuple[str, Tensor]] = {}  # outputs of convolutions, kept alive so that their ids stay unique
    pairs: list[tuple[str, str]] = []
    linears: list[str] = []
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            if isinstance(module, nn.Linear):
                linears.append(name)
            elif isinstance(module, nn.Conv2d):
                made[id(out)] = name, out
            elif inputs and id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], name))

        hooks.append(module.register_forward_hook(after))

    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)):
            watch(name, module)
    _features(vision, size)
    for hook in hooks:
        hook.remove()
    names = [name for pair in pairs for name in pair]
    once = [pair for pair in pairs if names.count(pair[0]) == names.count(pair[1]) == 1]
    return once, sorted(set(linears))


def _features(vision: VisionEncoder, size: int) -> Tensor:
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return vision.features(pixels.to(next(vision.backbone.parameters()).device)).values
