"""The trained parameters, the optimizer's groups, the learning rate schedule, and the EMA of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from captioner.errors import ConfigError
from captioner.models.adapters import is_trained
from captioner.models.captioner import Captioner
from captioner.models.halves import lower_names
from captioner.models.norms import used_layers
from captioner.models.vision import VisionEncoder
from captioner.training.distributed import unshard
from captioner.training.recipe import Stage


def choose_trained(model: Captioner, stage: Stage, trained: Callable[[str], bool]) -> None:
    """Set ``requires_grad`` of the parameters that ``trained`` accepts.

    ``stage.vision`` restricts the backbone's, ``stage.only`` the others. Raises ``ConfigError`` if none is left.

    With an adapter, only the adapter is trained.
    """
    vision = model.vision
    vision.backbone_frozen = stage.vision == "frozen"
    names = trained_layers(model, stage)
    if vision.shared_blocks is not None and lower_names(vision.backbone, vision.shared_blocks, names):
        raise ConfigError(
            "the classifier of labels shares the first layers of the backbone, so they cannot be trained; set vision "
            "to last:N with a smaller N, or to frozen"
        )
    for name, parameter in model.named_parameters():
        inside = name.startswith("vision.backbone.")
        kept = name.startswith("labeller.classifier.")
        chosen = trained(name) and not kept and (not inside or name.removeprefix("vision.backbone.") in names)
        wanted = inside or not stage.only or any(part in name for part in stage.only)
        parameter.requires_grad_(chosen and wanted and is_trained(model, name))
    if stage.only and not any(parameter.requires_grad for parameter in model.parameters()):
        parts = " or ".join(map(repr, stage.only))
        raise ConfigError(
            f"no trained parameter has {parts} in its name; correct the stage setting only, or leave it out"
        )


def trained_layers(model: Captioner, stage: Stage) -> set[str]:
    """Return the names of the backbone's parameters that ``stage.vision`` and ``stage.depthwise`` train."""
    if stage.vision == "frozen":
        return set()
    vision, size = model.vision, model.config.preprocess.size
    used = _in_use(vision, size)
    names = used if stage.vision == "all" else _last_groups(vision.backbone, stage.vision, used)
    return names if stage.depthwise else names - _depthwise_kernels(vision, size)


def _in_use(vision: VisionEncoder, size: int) -> set[str]:
    """Return the names of the backbone's parameters that its features depend on.

    Parameters that timm keeps for classification (ConvNeXt's last norm) get no gradient: DDP would wait for them.
    """
    parameters = dict(vision.backbone.requires_grad_(True).named_parameters())
    pixels = torch.zeros(1, 3, size, size, device=next(iter(parameters.values())).device)
    features = vision.eval().features(pixels).values
    gradients = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _last_groups(backbone: nn.Module, which: str, used: set[str]) -> set[str]:
    """Return the names of the ``used`` parameters in the last N of timm's groups (stem, stages or blocks)."""
    from timm.models import group_parameters

    if not hasattr(backbone, "group_matcher"):
        raise ConfigError("this backbone does not name its groups of layers; use vision = 'all' or 'frozen'")
    groups = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=False)  # type: ignore[operator]
    order = [group for group in sorted(groups) if used & set(groups[group])]
    count = int(which.removeprefix("last:"))
    return {name for group in order[-count:] for name in groups[group]} & used


def _depthwise_kernels(vision: VisionEncoder, size: int) -> set[str]:
    """Return the names of depthwise kernels, and of the scales of the norms after them."""
    return {
        f"{name}.weight"
        for pair in used_layers(vision, size).pairs
        for name in pair
        if (conv := cast(nn.Conv2d, vision.backbone.get_submodule(pair[0]))).groups == conv.in_channels > 1
    }


def set_checkpointing(model: Captioner, stage: Stage) -> None:
    """Recompute activations in the backward pass, in the decoder and in a trained backbone that supports it."""
    model.decoder.checkpointing = stage.checkpointing
    switch = getattr(model.vision.backbone, "set_grad_checkpointing", lambda enable: None)
    with contextlib.suppress(AssertionError):  # timm raises it for a backbone without checkpointing
        switch(stage.checkpointing and stage.vision != "frozen")


def make_optimizer(modules: Sequence[nn.Module], stage: Stage, *, lr: float | None = None) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) without weight decay on norms and biases.

    Each group keeps its peak learning rate as ``peak``. ``lr`` replaces the stage's, for a task's own modules.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in (named for module in modules for named in module.named_parameters()):
        if parameter.requires_grad:
            groups.setdefault((name.startswith("vision.backbone."), parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise ConfigError("this stage trains no parameter; check its vision setting")
    lr = stage.lr if lr is None else lr
    settings = [
        {
            "params": parameters,
            "peak": stage.vision_lr if backbone else lr,
            "weight_decay": stage.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=lr, betas=(0.9, 0.98), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, stage: Stage, step: int, steps: int) -> float:
    """Set the learning rates of a step (linear warm-up, then a cosine to ``final_lr``), and return the first group's.

    ``final_lr`` is a share of the peak.
    """
    warm = max(1, round(stage.warmup * steps))
    if step < warm:
        share = (step + 1) / warm
    else:
        cosine = (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
        share = stage.final_lr + (1 - stage.final_lr) * cosine
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return float(optimizer.param_groups[0]["lr"])


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Update the EMA of the weights: average <- d average + (1 - d) model.

    d = min(decay, (1 + step) / (10 + step)), so that it starts fast.
    """
    decay = min(decay, (1 + step) / (10 + step))
    kept: list[Tensor] = list(average.parameters())
    current = [unshard(p.detach()) for p in model.parameters()]
    torch._foreach_lerp_(kept, current, 1 - decay)
