"""Swin as a vision encoder (Liu et al. 2021): conversion of settings and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captioner.checkpoint.hugging_face.encoders.shared import (
    ATTENTION,
    GELU,
    Names,
    number,
    side,
    switch,
    to_timm_names,
    whole,
)
from captioner.checkpoint.hugging_face.files import require, weights_and_biases
from captioner.config import VisionConfig
from captioner.errors import CheckpointError, quoted
from captioner.models.backbones import ARGUMENTS

_MOST_STAGES = 16
_TABLE = "relative_position_bias_table"
_NORMS_EPS = 1e-5  # transformers uses it for the norms of patches and of downsampling, whatever config.json says
_LAYER = {
    f"attention.self.{_TABLE}": f"attn.{_TABLE}",
    f"attention.relative_position_bias.{_TABLE}": f"attn.{_TABLE}",
    **weights_and_biases(
        {
            "layernorm_before": "norm1",
            "attention.self.query": "attn.q",
            "attention.self.key": "attn.k",
            "attention.self.value": "attn.v",
            **ATTENTION,
            "layernorm_after": "norm2",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }
    ),
}


def vision_config(values: Mapping[str, Any], *, project: bool, source: object, size: int) -> VisionConfig:
    """Return the config of an encoder equivalent to a SwinModel with these settings, with its final norm.

    Raises ``CheckpointError`` for a setting that changes the result and has no counterpart here.
    """
    supported = {
        "hidden_act": GELU,
        "num_channels": (3,),
        "use_absolute_embeddings": (False,),
        "layer_norm_eps": (_NORMS_EPS,),
    }
    require(values, supported, source)
    depths, heads = (
        _stages(values, "depths", (2, 2, 6, 2), source),
        _stages(values, "num_heads", (3, 6, 12, 24), source),
    )
    if len(depths) != len(heads):
        raise CheckpointError(f"{source} has {len(depths)} depths and {len(heads)} num_heads; check its config.json")
    args = {
        "img_size": size,
        "patch_size": side(values.get("patch_size", 4), "patch_size", source),
        "embed_dim": whole(values, "embed_dim", 96, "embed_dim", source),
        "depths": depths,
        "num_heads": heads,
        "window_size": whole(values, "window_size", 7, "window_size", source),
        "mlp_ratio": number(values, "mlp_ratio", 4, ARGUMENTS["mlp_ratio"], source),
        "qkv_bias": switch(values, "qkv_bias", True, source),
    }
    _check_windows(args, source)
    return VisionConfig(
        backbone="swin_tiny_patch4_window7_224",
        backbone_args=args,
        norm=False,
        positions=False,
        project=project,
    )


def _check_windows(args: Mapping[str, Any], source: object) -> None:
    """Check that windows divide the grid of each stage.

    If they do not, transformers pads before it shifts the windows and timm afterwards, so patches would attend to other
    patches. transformers itself cannot run windows larger than the grid.
    """
    size, patch, window = args["img_size"], args["patch_size"], args["window_size"]
    grid = size // patch
    for stage, depth in enumerate(args["depths"]):
        if size % patch or grid < window or (grid % window and depth > 1):
            raise CheckpointError(
                f"{source} has images of {size} pixels with patch_size {patch} and window_size {window}, which do not "
                f"divide the {grid} x {grid} patches of stage {stage + 1}; only models whose windows do can be imported"
            )
        grid = (grid + 1) // 2


def vision_weights(values: Mapping[str, Any], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names. Raises ``CheckpointError`` for tensors that are not Swin's."""
    depths = _stages(values, "depths", (2, 2, 6, 2), source)
    around = weights_and_biases(
        {
            "embeddings.patch_embeddings.projection": "patch_embed.proj",
            "embeddings.norm": "patch_embed.norm",
            "layernorm": "norm",
            # timm merges patches at the beginning of a stage
            **{f"encoder.layers.{i}.downsample.norm": f"layers.{i + 1}.downsample.norm" for i in range(len(depths))},
        }
    )
    for i in range(len(depths)):
        around[f"encoder.layers.{i}.downsample.reduction.weight"] = f"layers.{i + 1}.downsample.reduction.weight"
    names = Names(
        around=around,
        layer=_LAYER,
        prefixes=("encoder.layers.{i}.blocks.{j}.",),
        unused=re.compile(r"pooler\..*|embeddings\.mask_token|.*\.relative_position_index|.*\.attn_mask"),
    )
    blocks: dict[int | tuple[int, int], str] = {
        (i, j): f"layers.{i}.blocks.{j}." for i, depth in enumerate(depths) for j in range(depth)
    }
    return to_timm_names(state, names, blocks, source)


def _stages(values: Mapping[str, Any], name: str, default: tuple[int, ...], source: object) -> list[int]:
    """Return one number for each stage. Raises ``CheckpointError`` for anything but a short list of sizes."""
    sizes = values.get(name, default)
    if not isinstance(sizes, (list, tuple)) or not 0 < len(sizes) <= _MOST_STAGES:
        raise CheckpointError(f"{source} has {name} {quoted(sizes)}, not a short list; check its config.json")
    return [whole({name: size}, name, 0, name, source) for size in sizes]
