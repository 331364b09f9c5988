"""Checks that weights fit a model: sizes before the model is built, names and shapes when it is filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from captioner.config import CaptionerConfig
from captioner.errors import CheckpointError
from captioner.models.vision import VisionEncoder

EMBEDDING = "decoder.token_embedding.weight"
MOST_BUFFERED = 1 << 28  # elements of a backbone's buffers: position tables, window masks
_BLOCK = re.compile(r"decoder\.blocks\.(\d{1,9})\.")

Shapes = Mapping[str, tuple[int, ...]]


def check_sizes(config: CaptionerConfig, shapes: Shapes, where: object) -> None:
    """Check that a model of ``config`` has the weight ``shapes`` that were read from the file ``where``.

    The encoder is built on the meta device. Raises ``CheckpointError`` naming a size or tensor that differs, and
    ``ConfigError`` for a backbone that cannot be built.
    """
    decoder = config.decoder
    layers = 1 + max((int(block[1]) for block in map(_BLOCK.match, shapes) if block), default=-1)
    sizes = [
        ("decoder.vocab_size", decoder.vocab_size, _side(shapes, EMBEDDING)),
        ("decoder.width", decoder.width, _side(shapes, EMBEDDING, 1)),
        ("decoder.context", decoder.context, _side(shapes, "decoder.position_embedding.weight")),
        ("decoder.layers", decoder.layers, layers),
        ("decoder.mlp_width", decoder.mlp_width or 4 * decoder.width, _side(shapes, "decoder.blocks.0.fc1.weight")),
        ("decoder.prefix", decoder.prefix, _side(shapes, "decoder.blocks.0.self_attn.prefix.keys", 1)),
    ]
    if config.heads is not None:
        sizes.append(("heads.width", config.heads.width, _side(shapes, "heads.image_proj.weight")))
        sizes.append(("heads.tags", len(config.heads.tags), _side(shapes, "heads.tag.weight")))
    if config.labels is not None:
        sizes.append(("labels.words", len(config.labels.words), _side(shapes, "labeller.classify.weight")))
    for name, expected, actual in sizes:
        if expected != actual:
            raise CheckpointError(
                f"{where} does not fit its config.json: it holds weights for {name} {actual}, not {expected}; "
                "take both files from the same checkpoint"
            )
    _check_vision(config, shapes, where)


def load_weights(model: nn.Module, weights: Mapping[str, Any], where: object) -> None:
    """Load the weights strictly, except for a tied ``lm_head``. Raises ``CheckpointError`` naming the difference."""
    tied = {"decoder.lm_head.weight", "lm_head.weight"}  # in a captioner, in a decoder alone
    expected = {name: value for name, value in model.state_dict().items() if name not in tied}
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys() - tied)
    shapes = sorted(n for n in expected.keys() & weights.keys() if expected[n].shape != weights[n].shape)
    for problem, names in (("lacks", missing), ("has an unknown", unknown), ("has another shape of", shapes)):
        if names:
            raise CheckpointError(
                f"{where} does not fit its config.json: it {problem} {names[0]} (and {len(names) - 1} more); "
                "take both files from the same checkpoint"
            )
    model.load_state_dict(dict(weights), strict=False)


def _check_vision(config: CaptionerConfig, shapes: Shapes, where: object) -> None:
    with torch.device("meta"):
        vision = VisionEncoder(config.vision, config.preprocess, config.decoder.width)
    expected = {f"vision.{name}": tuple(value.shape) for name, value in vision.state_dict().items()}
    differing = sorted(name for name, shape in expected.items() if shapes.get(name) != shape)
    if differing:
        problem = "has another shape of" if differing[0] in shapes else "lacks"
        raise CheckpointError(
            f"{where} does not fit its config.json: it {problem} {differing[0]} (and {len(differing) - 1} more); "
            "take both files from the same checkpoint"
        )
    if sum(buffer.numel() for buffer in vision.buffers()) > MOST_BUFFERED:
        raise CheckpointError(
            f"{where}: the input size or windows of backbone {config.vision.backbone} need tables that are too large; "
            "take config.json from the same checkpoint"
        )


def _side(shapes: Shapes, name: str, place: int = 0) -> int:
    """Return the size of one dimension of a tensor; 0 for a missing tensor or dimension."""
    shape = shapes.get(name, ())
    return shape[place] if place < len(shape) else 0
