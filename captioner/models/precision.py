"""A loaded model made ready to caption: as fast as its device allows, in one of three precisions.

On a CPU, linear layers are packed (``layers/linears.py``) and batch norms fold into the convolutions before them. A
convolutional backbone stays fp32: in bf16 it changed one of ten captions of a shipped model, and in fp16, which is no
faster, one of seventy. What flows between the layers stays fp32, as do norms, softmax, gates, the Gaussian focus, the
likeliest logits and the heads. On a GPU fp32 stays as it is and bf16 is a cast of the whole model, its logits, focus
and heads apart.
"""

from __future__ import annotations

import copy
from typing import cast, get_args

import torch
from torch import Tensor, nn

from captioner.allocation import give_back_freed_memory
from captioner.errors import UsageError
from captioner.layers.attention import Focus, MixedRead
from captioner.layers.linears import PackedHead, PackedLinear, Precision
from captioner.models.adapters import merge
from captioner.models.captioner import Captioner
from captioner.models.decoder import Decoder
from captioner.models.native_steps import NativeSteps
from captioner.models.norms import fold_norms
from captioner.models.vision import VisionEncoder
from captioner.process import plain_defaults

__all__ = ["Precision", "for_inference"]

MUCH = 50_000_000  # weights to read for a word: from there on, reading them is most of a step's time


@torch.no_grad()
@plain_defaults()
def for_inference(model: Captioner, precision: Precision) -> Captioner:
    """``model`` itself, prepared in place on the device where it is; from then on it only captions.

    An adapter is merged first. The weights as they were are let go, so the model can be neither trained nor saved nor
    moved: load the checkpoint again for that. Raises ``UsageError`` for a model that was prepared before, and for int8
    on a device other than a CPU.
    """
    device = next(model.parameters()).device
    if precision not in get_args(Precision):
        raise UsageError(f"there is no precision {precision!r}; choose one of {', '.join(get_args(Precision))}")
    if model.precision is not None:
        raise UsageError(f"the model is prepared in {model.precision} already; load its checkpoint again")
    if precision == "int8" and device.type != "cpu":
        raise UsageError(f"int8 is for CPUs; on the device {device.type} choose bf16 or fp32")
    if model.adapter is not None:
        merge(model)
    model.eval().requires_grad_(False)
    used = fold_norms(model.vision, model.config.preprocess.size)
    if device.type == "cpu":
        _prepare_backbone(model.vision, precision, used)
        if precision == "fp32" and _read_per_word(model.decoder) >= MUCH:
            model.decoder.draft = _draft_of(model.decoder)
        _pack_decoder(model.decoder, precision)
        if model.labeller is not None:  # rounding would choose other labels
            for name in ("classify", "proj"):
                model.labeller.set_submodule(name, PackedLinear(cast(nn.Linear, getattr(model.labeller, name)), "fp32"))
        if precision == "int8" and model.decoder.steps is not None:
            model.decoder.memory_dtype = torch.float16  # half the bytes of what every word reads of every image
    elif precision == "bf16":
        _cast(model)
    model.precision = precision
    give_back_freed_memory()
    return model


def _prepare_backbone(vision: VisionEncoder, precision: Precision, used: list[str]) -> None:
    """Pack the linear layers that were ``used`` as layers; a backbone of other layers, by its weights, stays in fp32.

    Where int8 is asked for they are bf16: products of hundreds of patches do not wait for the weights, and bf16 is
    faster (ViT-S/16: 21 and 30 ms an image) and nearer to fp32. Some backbones only read the weights of a linear layer
    (BEiT's fused projections): those stay.
    """
    backbone = vision.backbone
    layers = [(name, module) for name in used if type(module := backbone.get_submodule(name)) is nn.Linear]
    linear = sum(module.weight.numel() for _, module in layers)
    if precision == "fp32" or 2 * linear >= sum(p.numel() for p in backbone.parameters()):
        for name, module in layers:
            backbone.set_submodule(name, PackedLinear(module, "bf16" if precision == "int8" else precision))
    if isinstance(vision.proj, nn.Linear):
        # Of all layers this one's rounding costs most: with it 95.0 % of 1,000 int8 captions were fp32's, without 98.0.
        vision.proj = PackedLinear(vision.proj, "fp32")


def _pack_decoder(decoder: Decoder, precision: Precision) -> None:
    """Focus and gates are small and decide much: they stay fp32, packed so that a row is the same in any company; int8
    would make words of the last bit. So do logits in bf16: their steps of 1/16 around 10 would make many words equal.
    In int8 the likeliest of them are exact."""
    deciding = [module for module in decoder.modules() if isinstance(module, (Focus, MixedRead))]
    small = {id(part) for module in deciding for part in module.modules()}
    for name, module in list(decoder.named_modules()):
        if type(module) is not nn.Linear:
            continue
        if name == "lm_head" and precision == "int8":
            decoder.set_submodule(name, PackedHead(module))
        else:
            exact = name == "lm_head" or id(module) in small
            decoder.set_submodule(name, PackedLinear(module, "fp32" if exact else precision))
    decoder.steps = NativeSteps.of(decoder)


def _read_per_word(decoder: Decoder) -> int:
    return sum(
        module.weight.numel()
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(".kv_proj")
    )


def _draft_of(decoder: Decoder) -> Decoder:
    """``decoder`` in int8, sharing with it all but the products. It never makes a memory of its own."""
    draft = copy.deepcopy(decoder, {id(parameter): parameter for parameter in decoder.parameters()})
    draft.set_submodule("lm_head", PackedLinear(draft.lm_head, "int8"))  # near enough for a guess
    for i in range(len(draft.blocks)):
        draft.set_submodule(f"blocks.{i}.cross_attn.kv_proj", nn.Identity())
    _pack_decoder(draft, "int8")
    return draft


class _Widened(nn.Module):
    """A layer that computes in fp32 what flows past in less."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


def _cast(model: Captioner) -> None:
    """All of ``model`` to bf16 but its last norm and its logits, which are of fp32 weights."""
    decoder = model.decoder
    weight = decoder.lm_head.weight.detach().float().clone()
    heads, labeller = model.heads, model.labeller
    model.heads = model.labeller = None
    model.bfloat16()  # the table of tokens too, which was one with the weights of the logits
    decoder.lm_head.weight = nn.Parameter(weight, requires_grad=False)
    decoder.final_norm = cast(nn.LayerNorm, _Widened(decoder.final_norm))
    model.heads, model.labeller = heads, labeller  # they read fp32 states, and decide
    model.vision.backbone_dtypes = torch.bfloat16, torch.bfloat16
