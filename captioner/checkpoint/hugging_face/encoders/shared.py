"""Checks of settings, and renaming of weights, that all encoders need.

A file has transformers' names of version 4; a model in memory may have those of version 5. Both can be imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.hugging_face.files import rename
from captioner.errors import CheckpointError, quoted
from captioner.models.backbones import ARGUMENTS

GELU = ("gelu", "gelu_python")  # two names of the exact formula
ATTENTION = {
    "attention.output.dense": "attn.proj",
    # transformers 5
    **{f"attention.{part}_proj": f"attn.{part}" for part in "qkv"},
    "attention.o_proj": "attn.proj",
}
"""timm's names of the layers of an attention that most families share."""
_PARTS = re.compile(r"(.*attn\.)q(\.weight|\.bias)")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of a transformer's weights, in transformers and in timm.

    around: Names outside of the layers.
    layer: Names inside a layer, after its prefix.
    prefixes: The prefixes of layer ``{i}``, with that placeholder.
    unused: Weights for classification and pretraining, and tables that are computed.
    """

    around: Mapping[str, str]
    layer: Mapping[str, str]
    prefixes: tuple[str, ...] = ("encoder.layer.{i}.", "layers.{i}.")
    unused: re.Pattern[str] = field(default=re.compile(r"pooler\..*|embeddings\.mask_token"))


def to_timm_names(
    state: Mapping[str, Tensor], names: Names, blocks: Mapping[int | tuple[int, int], str], source: object
) -> dict[str, Tensor]:
    """Convert tensors to timm's names, with queries, keys and values fused.

    ``blocks`` holds timm's prefix of each layer. Raises ``CheckpointError`` for tensors that the encoder does not have,
    and for more layers than tensors.
    """
    if len(blocks) > len(state):
        raise CheckpointError(f"config.json of {source} names more layers than its weights have; download it again")
    known = dict(names.around)
    for place, block in blocks.items():
        i, j = place if isinstance(place, tuple) else (place, 0)
        for prefix in names.prefixes:
            known |= {prefix.format(i=i, j=j) + theirs: block + ours for theirs, ours in names.layer.items()}
    return _fused(rename(state, known, names.unused, source))


def _fused(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values of each layer; parts that do not fit together stay as they are."""
    fused = dict(weights)
    for first in filter(None, map(_PARTS.fullmatch, weights)):
        prefix, kind = first.groups()
        parts = [fused.get(f"{prefix}{part}{kind}") for part in "qkv"]
        present = [part for part in parts if part is not None]
        if len(present) == 3 and len({part.shape for part in present}) == 1:
            fused[f"{prefix}qkv{kind}"] = torch.cat(present)  # (3 * width, width) or (3 * width,)
            for part in "qkv":
                del fused[f"{prefix}{part}{kind}"]
    return fused


def whole(values: Mapping[str, Any], name: str, default: int, argument: str, source: object) -> int:
    """Return a size from config.json, at least 1 and at most the limit of timm's ``argument``.

    Raises ``CheckpointError`` for anything else.
    """
    size = values.get(name, default)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= ARGUMENTS[argument]:
        raise CheckpointError(
            f"{source} has {name} {quoted(size)}, not a number from 1 to {ARGUMENTS[argument]}; check its config.json"
        )
    return size


def number(values: Mapping[str, Any], name: str, default: float, most: float, source: object) -> float:
    """Return a rate or ratio from config.json, from 0 to ``most``. Raises ``CheckpointError`` for anything else."""
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise CheckpointError(f"{source} has {name} {quoted(value)}; check its config.json")
    return float(value)


def switch(values: Mapping[str, Any], name: str, default: bool, source: object) -> bool:
    """Return a switch from config.json. Raises ``CheckpointError`` for anything but true and false."""
    value = values.get(name, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"{source} has {name} {quoted(value)}, not true or false; check its config.json")
    return value


def side(value: object, name: str, source: object) -> int:
    """Return the side of a square given as 224, [224, 224], or {"height": 224, "width": 224}.

    Raises ``CheckpointError`` for another shape.
    """
    sides = list(value.values()) if isinstance(value, Mapping) and set(value) == {"height", "width"} else value
    sides = sides if isinstance(sides, (list, tuple)) else [sides, sides]
    same = len(sides) == 2 and sides[0] == sides[1] and not isinstance(sides[0], bool)
    if not same or not isinstance(sides[0], int) or sides[0] < 1:
        raise CheckpointError(
            f"{source} has {name} {quoted(value)}; only square images of a fixed size can be imported"
        )
    return sides[0]


def ratio(hidden: int, width: int) -> float:
    """Return the mlp_ratio that gives timm exactly ``hidden`` units: it truncates the product with the width."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.5) / width


def plain_blocks(depth: int) -> dict[int | tuple[int, int], str]:
    """Return timm's prefixes of ``depth`` layers."""
    return {i: f"blocks.{i}." for i in range(depth)}


def square_root(places: int, name: str, source: object) -> int:
    """Return the side of a square grid with this number of ``places``. Raises ``CheckpointError`` if it has none."""
    root = math.isqrt(max(places, 0))
    if root < 1 or root * root != places:
        raise CheckpointError(f"{source} has {name} for {places} patches, which are no square; download it again")
    return root


def shapes_agree(tensors: Iterable[Tensor | None], width: int, ndim: int) -> bool:
    """Return whether all tensors exist, have ``ndim`` axes, and end with one of ``width``."""
    return all(t is not None and t.ndim == ndim and t.shape[-1] == width for t in tensors)
