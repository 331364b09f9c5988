"""Preparation of a loaded model for inference, in one of three precisions.

On a CPU, linear layers are packed (``layers/linears.py``) and batch norms are folded into the convolutions before them.
A convolutional backbone stays fp32: in bf16 it changed one of ten captions of a shipped model, and in fp16, which is no
faster, one of seventy. Activations between layers stay fp32, as do norms, softmax, gates, the Gaussian focus, the
largest logits and the heads. On a GPU, fp32 changes nothing, and bf16 casts the whole model except logits, focus and
heads.
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

MUCH = 50_000_000  # weights read per token, from which on reading them dominates a step's time


@torch.no_grad()
@plain_defaults()
def for_inference(model: Captioner, precision: Precision) -> Captioner:
    """Prepare ``model`` for inference in place, on its current device, and return it.

    An adapter is merged first. The original weights are freed, so the model can no longer be trained, saved or moved:
    load the checkpoint again for that. Raises ``UsageError`` for a model that is already prepared, and for int8 on a
    device other than a CPU.
    """
    device = next(model.parameters()).device
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}; choose one of {', '.join(get_args(Precision))}")
    if model.precision is not None:
        raise UsageError(f"the model is already prepared in {model.precision}; load its checkpoint again")
    if precision == "int8" and device.type != "cpu":
        raise UsageError(f"int8 runs on CPUs only; on device {device.type} choose bf16 or fp32")
    if model.adapter is not None:
        merge(model)
    model.eval().requires_grad_(False)
    used_linears = fold_norms(model.vision, model.config.preprocess.size)
    if device.type == "cpu":
        _prepare_backbone(model.vision, precision, used_linears)
        if precision == "fp32" and _read_per_word(model.decoder) >= MUCH:
            model.decoder.draft = _draft_of(model.decoder)
        _pack_decoder(model.decoder, precision)
        if model.labeller is not None:  # rounding would select other labels
            for name in ("classify", "proj"):
                model.labeller.set_submodule(name, PackedLinear(cast(nn.Linear, getattr(model.labeller, name)), "fp32"))
        if precision == "int8" and model.decoder.steps is not None:
            model.decoder.memory_dtype = torch.float16  # half the bytes that every token reads per image
    elif precision == "bf16":
        _cast(model)
    model.precision = precision
    give_back_freed_memory()
    return model


def _prepare_backbone(vision: VisionEncoder, precision: Precision, used: list[str]) -> None:
    """Pack the ``used`` linear layers; a backbone whose weights are mostly in other layers stays fp32.

    With int8 they become bf16: a product over hundreds of patches is not limited by reading the weights, and bf16 is
    faster (ViT-S/16: 21 and 30 ms an image) and closer to fp32. Linear layers whose weights alone are used (BEiT's
    fused projections) are not packed.
    """
    backbone = vision.backbone
    layers = [(name, module) for name in used if type(module := backbone.get_submodule(name)) is nn.Linear]
    linear = sum(module.weight.numel() for _, module in layers)
    if precision == "fp32" or 2 * linear >= sum(p.numel() for p in backbone.parameters()):
        for name, module in layers:
            backbone.set_submodule(name, PackedLinear(module, "bf16" if precision == "int8" else precision))
    if isinstance(vision.proj, nn.Linear):
        # Rounding this layer costs most: with it 95.0 % of 1,000 int8 captions equalled fp32's, without it 98.0 %.
        vision.proj = PackedLinear(vision.proj, "fp32")


def _pack_decoder(decoder: Decoder, precision: Precision) -> None:
    """Pack the decoder's linear layers in ``precision``, except focus, gates and logits.

    Focus and gates are small but sensitive: they stay fp32, packed so that a row does not depend on its batch, because
    in int8 their last bits would change words. Logits stay fp32 with bf16 too: bf16 steps of 1/16 around 10 would make
    many words equal. With int8 the largest logits are exact.
    """
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
    """Return an int8 copy of ``decoder`` that shares all other weights and reads the decoder's image memory."""
    draft = copy.deepcopy(decoder, {id(parameter): parameter for parameter in decoder.parameters()})
    draft.set_submodule("lm_head", PackedLinear(draft.lm_head, "int8"))  # exact enough for a draft
    for i in range(len(draft.blocks)):
        draft.set_submodule(f"blocks.{i}.cross_attn.kv_proj", nn.Identity())
    _pack_decoder(draft, "int8")
    return draft


class _Widened(nn.Module):
    """A layer that computes in fp32 for inputs of lower precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


def _cast(model: Captioner) -> None:
    """Cast ``model`` to bf16, except its last norm and its logits, which keep fp32 weights."""
    decoder = model.decoder
    weight = decoder.lm_head.weight.detach().float().clone()
    heads, labeller = model.heads, model.labeller
    model.heads = model.labeller = None
    model.bfloat16()  # including the token embedding, which was tied to the logits' weights
    decoder.lm_head.weight = nn.Parameter(weight, requires_grad=False)
    decoder.final_norm = cast(nn.LayerNorm, _Widened(decoder.final_norm))
    model.heads, model.labeller = heads, labeller  # they read fp32 states and stay fp32
    model.vision.backbone_dtypes = torch.bfloat16, torch.bfloat16
