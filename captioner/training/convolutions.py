"""Convolutions that train faster on a CPU: norms of fixed statistics folded into weights, products in bf16.

A batch norm whose statistics do not move is a scale and a shift of each channel. Scaling the weights instead of the
map gives the same output and the same gradients, and saves two passes over the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.models.norms import watched
from captioner.models.vision import VisionEncoder


@contextmanager
def folded(vision: VisionEncoder, size: int) -> Iterator[None]:
    """Train the backbone's convolutions together with the batch norms after them, as long as the context lasts.

    Names and values of parameters stay as they are. Only on a CPU: a GPU is fast without it.
    """
    backbone = vision.backbone
    if vision.backbone_frozen or next(backbone.parameters()).device.type != "cpu":
        yield
        return
    pairs = [
        (cast(nn.Conv2d, backbone.get_submodule(conv)), cast(nn.BatchNorm2d, backbone.get_submodule(norm)))
        for conv, norm in watched(vision, size)[0]
    ]
    pairs = [
        (conv, norm) for conv, norm in pairs if any(p.requires_grad for p in (*conv.parameters(), *norm.parameters()))
    ]
    for conv, norm in pairs:
        conv.forward = partial(_convolved_and_normed, conv, norm)  # type: ignore[method-assign]
        norm.forward = partial(_activated, norm)  # type: ignore[method-assign]
    vision.backbone_folded = bool(pairs)
    try:
        yield
    finally:
        vision.backbone_folded = False
        for module in (module for pair in pairs for module in pair):
            del module.forward


def _convolved_and_normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """``x`` (B, C, h, w) -> (B, C', h', w'), in the precision of autocast."""
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * (var + norm.eps).rsqrt()  # (C',)
    weight = conv.weight * scale[:, None, None, None]
    shift = norm.bias - mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    x, weight, shift = x.to(dtype), weight.to(dtype), shift.to(dtype)
    padding: Any = conv.padding
    if type(conv) is not nn.Conv2d:  # timm's convolution with TensorFlow's padding
        from timm.layers import pad_same

        x, padding = pad_same(x, conv.kernel_size, conv.stride, conv.dilation), 0
    with torch.autocast("cpu", enabled=False):
        if conv.groups == conv.in_channels == conv.out_channels and conv.padding_mode == "zeros":
            return cast(Tensor, _Depthwise.apply(x, weight, shift, conv.stride, padding, conv.dilation))
        return F.conv2d(x, weight, shift, conv.stride, padding, conv.dilation, conv.groups)


def _activated(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What timm's batch norms do after the norm."""
    act = getattr(norm, "act", None)
    return x if act is None else cast(Tensor, act(x))


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose gradients take another way than oneDNN's.

    On 32 maps of 816 x 18 x 18 the gradient of the input takes 9 ms in bf16, and 3 as a convolution of the output's
    gradient with the turned kernel; that of the weights 154 ms in bf16 and 38 in fp32. (With a stride both are oneDNN's
    in fp32.)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shift: Tensor, stride: Any, padding: Any, dilation: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        ctx.padding = (padding, padding) if isinstance(padding, int) else padding
        return F.conv2d(x, weight, shift, stride, padding, dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        groups = len(weight)

        def ways(x: Tensor, weight: Tensor, gradient: Tensor, of_x: bool) -> Tensor:
            found = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, ctx.stride, ctx.padding, ctx.dilation, False, [0, 0], groups,
                [of_x, not of_x, False],
            )  # fmt: skip
            return cast(Tensor, found[0] if of_x else found[1])

        of_x = of_weight = of_shift = None
        if ctx.needs_input_grad[0]:
            if set(ctx.stride) == set(ctx.dilation) == {1}:
                turned = [k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True)]
                of_x = F.conv2d(gradient, weight.flip(2, 3), padding=turned, groups=groups)
            else:
                of_x = ways(x.float(), weight.float(), gradient.float(), True).to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = ways(x.float(), weight.float(), gradient.float(), False).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_shift = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_shift, None, None, None
