"""DINOv2 as a vision encoder (Oquab et al. 2023), also with registers (Darcet et al. 2023).

Its checkpoints hold positions for 518 pixels and prepare images of 224; the import resizes the positions as
transformers does in each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.checkpoint.hugging_face.encoders.shared import (
    ATTENTION,
    GELU,
    Names,
    number,
    plain_blocks,
    ratio,
    shapes_agree,
    side,
    square_root,
    switch,
    to_timm_names,
    whole,
)
from captioner.checkpoint.hugging_face.encoders.vit import AROUND
from captioner.checkpoint.hugging_face.files import require, weights_and_biases
from captioner.config import VisionConfig
from captioner.errors import CheckpointError
from captioner.models.backbones import ARGUMENTS

MOST_POSITIONS = 1 << 28  # elements of resized position embeddings: 1 GB
_PATCH = {"dinov2": 14, "dinov2_with_registers": 16}  # transformers' defaults
_NAMES = Names(
    around={**AROUND, "embeddings.register_tokens": "reg_token"},
    layer={
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        **weights_and_biases(
            {
                "norm1": "norm1",
                "attention.attention.query": "attn.q",
                "attention.attention.key": "attn.k",
                "attention.attention.value": "attn.v",
                **ATTENTION,
                "norm2": "norm2",
                "mlp.fc1": "mlp.fc1",
                "mlp.fc2": "mlp.fc2",
                "mlp.weights_in": "mlp.fc1",
                "mlp.weights_out": "mlp.fc2",
                # transformers 5
                "mlp.gate_proj": "mlp.gate",
                "mlp.up_proj": "mlp.up",
                "mlp.down_proj": "mlp.fc2",
            }
        ),
    },
)


def vision_config(values: Mapping[str, Any], *, project: bool, source: object, size: int) -> VisionConfig:
    """Return the config of an encoder equivalent to a DINOv2 with these settings, with its final norm.

    Raises ``CheckpointError`` for a setting that changes the result and has no counterpart here.
    """
    width = whole(values, "hidden_size", 768, "embed_dim", source)
    heads = whole(values, "num_attention_heads", 12, "num_heads", source)
    gated = switch(values, "use_swiglu_ffn", False, source)
    require(values, {"num_channels": (3,), "head_dim": (None, width // heads)}, source)
    if not gated:  # else the activation is SiLU
        require(values, {"hidden_act": GELU}, source)
    hidden = int(width * number(values, "mlp_ratio", 4, ARGUMENTS["mlp_ratio"], source))
    registers = values["model_type"] == "dinov2_with_registers"
    args: dict[str, Any] = {
        "img_size": size,
        "patch_size": _patch(values, source),
        "embed_dim": width,
        "depth": whole(values, "num_hidden_layers", 12, "depth", source),
        "num_heads": heads,
        "mlp_ratio": ratio(2 * _gated_width(hidden) if gated else hidden, width),
        "qkv_bias": switch(values, "qkv_bias", True, source),
    }
    if registers:
        args["reg_tokens"] = _registers(values, source)
    return VisionConfig(
        backbone=f"vit_{'giant' if gated else 'base'}_patch14_{'reg4_' if registers else ''}dinov2",
        backbone_args=args,
        norm=False,
        positions=False,
        project=project,
        norm_eps=number(values, "layer_norm_eps", 1e-6, 1, source),
    )


def vision_weights(
    values: Mapping[str, Any], state: Mapping[str, Tensor], source: object, *, size: int
) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names, with positions for images of ``size`` pixels.

    Raises ``CheckpointError`` for tensors that are not DINOv2's.
    """
    weights = to_timm_names(
        state, _NAMES, plain_blocks(whole(values, "num_hidden_layers", 12, "depth", source)), source
    )
    for gate in [name for name in weights if ".mlp.gate." in name]:
        parts = [weights.pop(gate), weights.pop(gate.replace(".gate.", ".up."), None)]
        present = [part for part in parts if part is not None]
        if len({part.shape for part in present}) == 1:
            weights[gate.replace(".gate.", ".fc1.")] = torch.cat(present)  # (2 * hidden, width) or (2 * hidden,)
    places, first = weights.get("pos_embed"), weights.get("cls_token")
    width = whole(values, "hidden_size", 768, "embed_dim", source)
    if places is None or first is None or not shapes_agree((places, first), width, 3):
        return weights  # the check of sizes names what is wrong
    grid = size // _patch(values, source)
    registers = values["model_type"] == "dinov2_with_registers"
    places = _resized(places.float(), grid, source, antialias=registers)
    if registers:  # timm has no position for the first tokens
        weights["cls_token"], places = first.float() + places[:, :1], places[:, 1:]
    return weights | {"pos_embed": places}


def _resized(places: Tensor, grid: int, source: object, *, antialias: bool) -> Tensor:
    """Resize positions (1, 1 + h * w, D) to a square grid, as transformers does: antialiased only with registers."""
    old = square_root(places.shape[1] - 1, "position embeddings", source)
    if grid == old:
        return places
    if not 0 < grid * grid * places.shape[2] <= MOST_POSITIONS:
        raise CheckpointError(f"{source} prepares images of a size that gives {grid} x {grid} patches; correct it")
    square = places[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, h, w)
    square = F.interpolate(square, (grid, grid), mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([places[:, :1], square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)  # (1, 1 + grid * grid, D)


def _gated_width(hidden: int) -> int:
    """Return the width of a gated layer with as many weights as a plain one of ``hidden`` units, a multiple of 8."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def _patch(values: Mapping[str, Any], source: object) -> int:
    return side(values.get("patch_size", _PATCH[values["model_type"]]), "patch_size", source)


def _registers(values: Mapping[str, Any], source: object) -> int:
    return whole(values, "num_register_tokens", 4, "reg_tokens", source)
