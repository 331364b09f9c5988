"""A captioner's model prepared for inference, in one of three precisions.

On a CPU, linear layers are packed (``linears.py``) and batch norms are folded into the convolutions before them. A
convolutional backbone stays fp32: in bf16 it changed one of ten captions of a shipped model, and in fp16, which is no
faster, one of seventy. Activations between layers stay fp32, as do norms, softmax, gates, the Gaussian focus, the
largest logits and the heads. On a GPU, fp32 changes nothing, and bf16 casts the whole model except for the weights of
logits, last norm, focus, gates, labels and heads.
"""

from __future__ import annotations

import copy
from typing import cast, get_args

import torch
from torch import Tensor, nn

from captioner.errors import UsageError
from captioner.inference.decoder import PreparedDecoder
from captioner.inference.linears import PackedLinear, multiplies_bf16
from captioner.inference.precision import Precision
from captioner.inference.vit import fuse_blocks
from captioner.layers.attention import Focus, MixedRead
from captioner.models.adapters import merge
from captioner.models.captioner import Captioner
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.models.norms import fold_all_norms
from captioner.models.vision import VisionEncoder
from captioner.native.library import library
from captioner.system.allocation import give_back_freed_memory
from captioner.system.process import plain_defaults


class Prepared(EncoderDecoder):
    """The encoder and decoder of a captioner, with weights packed for this machine; made by ``prepare_model``."""

    def __init__(self, model: Captioner, precision: Precision) -> None:
        """Take over the modules of ``model``, in eval mode and without an adapter, and pack them layer by layer."""
        super().__init__()
        self.config, self.precision = model.config, precision
        self.vision, self.heads, self.labeller = model.vision, model.heads, model.labeller
        device = model.decoder.token_embedding.weight.device.type
        used_linears = fold_all_norms(self.vision, self.labeller, self.config.preprocess.size)
        if device == "cpu":
            _prepare_backbone(self.vision, precision, used_linears)
            self.decoder = PreparedDecoder(model.decoder, precision)
            self.question = None if model.question is None else PreparedDecoder(model.question, precision)
            if self.labeller is not None:  # rounding would select other labels
                for name in ("classify", "proj"):
                    layer = cast(nn.Linear, getattr(self.labeller, name))
                    self.labeller.set_submodule(name, PackedLinear(layer, "fp32"))
        else:
            self.decoder, self.question = model.decoder, model.question
            if precision == "bf16":
                _cast(self)


@torch.no_grad()
@plain_defaults()
def prepare_model(model: Captioner, precision: Precision, *, keep: bool = True) -> Prepared:
    """Prepare ``model`` for inference, on its current device; an adapter is merged.

    Without ``keep``, its layers are freed while they are packed, and ``model`` is empty afterwards. Raises
    ``UsageError`` for int8 on a device other than a CPU.
    """
    device = next(model.parameters()).device
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}; choose one of {', '.join(get_args(Precision))}")
    if precision == "int8" and device.type != "cpu":
        raise UsageError(f"int8 runs on CPUs only; on device {device.type} choose bf16 or fp32")
    if keep:
        model = copy.deepcopy(model)
    if model.adapter is not None:
        merge(model)
    model.eval().requires_grad_(False)
    prepared = Prepared(model, precision).eval()
    for name, _ in list(model.named_children()):
        delattr(model, name)
    give_back_freed_memory()
    return prepared


def _prepare_backbone(vision: VisionEncoder, precision: Precision, used: list[str]) -> None:
    """Pack the ``used`` linear layers; a backbone whose weights are mostly in other layers stays fp32.

    Linear layers whose weights alone are used (BEiT's fused projections) are not packed.
    """
    backbone = vision.backbone
    layers = [(name, module) for name in used if type(module := backbone.get_submodule(name)) is nn.Linear]
    linear = sum(module.weight.numel() for _, module in layers)
    if precision == "fp32" or 2 * linear >= sum(p.numel() for p in backbone.parameters()):
        if precision == "int8" and library() is None:  # torch's int8 product is slower over hundreds of patches
            precision = "bf16" if multiplies_bf16() else "fp32"
        fused = fuse_blocks(backbone, precision) if precision != "fp32" else ()
        for name, module in layers:
            if not name.startswith(fused):
                backbone.set_submodule(name, PackedLinear(module, precision))
    if isinstance(vision.proj, nn.Linear):
        # Rounding this layer costs most: with it 95.0 % of 1,000 int8 captions equalled fp32's, without it 98.0 %.
        vision.proj = PackedLinear(vision.proj, "fp32")


class _Widened(nn.Module):
    """A layer that computes in fp32 for inputs of lower precision; with ``back`` its output has theirs."""

    def __init__(self, layer: nn.Module, *, back: bool = False) -> None:
        super().__init__()
        self.layer, self._back = layer, back

    def forward(self, x: Tensor) -> Tensor:
        widened: Tensor = self.layer(x.float())
        return widened.to(x.dtype) if self._back else widened


def _cast(model: EncoderDecoder) -> None:
    """Cast ``model`` to bf16, except for the last norm, the layers of its logits, focus, gates, labels and heads."""
    decoder = model.decoder
    exact: dict[str, nn.Module] = {
        "decoder.lm_head": decoder.lm_head,
        "decoder.head_transform": decoder.head_transform,
        "decoder.final_norm": _Widened(decoder.final_norm),
    }
    for name, module in model.named_modules():
        if isinstance(module, Focus):
            exact |= {f"{name}.{part}": _Widened(getattr(module, part)) for part in ("point", "spread")}
        elif isinstance(module, MixedRead) and module.kind == "M":
            exact[f"{name}.gate"] = _Widened(module.gate, back=True)
    exact = copy.deepcopy(exact)  # the logits' weights may be the token embedding, which is cast
    gates = {name: gate.detach().clone() for name, gate in model.named_parameters() if name.endswith(".cross_gate")}
    heads, labeller = model.heads, model.labeller
    model.heads = model.labeller = None
    model.bfloat16()
    for name, layer in exact.items():
        model.set_submodule(name, layer.float())
    for name, gate in gates.items():
        model.get_parameter(name).data = gate.float()
    model.heads, model.labeller = heads, labeller  # they read fp32 states and stay fp32
