"""Checks that weights fit a model: sizes before the model is built, names and shapes when it is filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from captioner.config import CaptionerConfig, DecoderConfig
from captioner.errors import CheckpointError
from captioner.models.decoder import Decoder
from captioner.models.vision import VisionEncoder

MOST_BUFFERED = 1 << 28  # elements of a backbone's buffers: position tables, window masks

Shapes = Mapping[str, tuple[int, ...]]


def check_sizes(config: CaptionerConfig, shapes: Shapes, where: object) -> None:
    """Check that a model of ``config`` has the weight ``shapes`` that were read from the file ``where``.

    The encoder is built on the meta device. Raises ``CheckpointError`` naming a size or tensor that differs, and
    ``ConfigError`` for a backbone that cannot be built.
    """
    sizes = _decoder_sizes("decoder", config.decoder, shapes)
    if config.question is not None:
        sizes += _decoder_sizes("question", config.question, shapes)
    if config.heads is not None:
        sizes.append(("heads.width", config.heads.width, _side(shapes, "heads.image_proj.weight")))
        sizes.append(("heads.tags", len(config.heads.tags), _side(shapes, "heads.tag.weight")))
    if config.labels is not None:
        sizes.append(("labels.words", len(config.labels.words), _side(shapes, "labeller.classify.weight")))
        if (classifier := config.labels.classifier) is not None:
            stored = _side(shapes, "labeller.classifier.classify.weight")
            sizes.append(("labels.classifier.count", classifier.count, stored))
    for name, expected, actual in sizes:
        if expected != actual:
            raise CheckpointError(
                f"{where} does not fit its config.json: it holds weights for {name} {actual}, not {expected}; "
                "take both files from the same checkpoint"
            )
    _check_vision(config, shapes, where)


def load_weights(model: nn.Module, weights: Mapping[str, Any], where: object) -> None:
    """Load the weights strictly, except for a tied ``lm_head``. Raises ``CheckpointError`` naming the difference."""
    tied = tied_names(model)
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


def tied_names(model: nn.Module) -> set[str]:
    """Return the names of logit weights that are a token embedding; building the model restores them."""
    decoders = {name: part for name, part in model.named_modules() if isinstance(part, Decoder)}
    return {
        f"{name}.lm_head.weight".lstrip(".")
        for name, part in decoders.items()
        if getattr(part.lm_head, "weight", None) is part.token_embedding.weight
    }


def _decoder_sizes(part: str, config: DecoderConfig, shapes: Shapes) -> list[tuple[str, int, int]]:
    """Return names of a decoder's sizes, with the value of ``config`` and that of its weights."""
    numbers = (re.match(rf"{part}\.blocks\.(\d{{1,9}})\.", name) for name in shapes)
    layers = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    embedding, block = f"{part}.token_embedding.weight", f"{part}.blocks.0"
    return [
        (f"{part}.vocab_size", config.vocab_size, _side(shapes, embedding)),
        (f"{part}.width", config.width, _side(shapes, embedding, 1)),
        (f"{part}.context", config.context, _side(shapes, f"{part}.position_embedding.weight")),
        (f"{part}.layers", config.layers, layers),
        (f"{part}.heads of a width of", config.heads_width, _side(shapes, f"{block}.self_attn.qkv_proj.weight") // 3),
        (f"{part}.mlp_width", config.mlp_width or 4 * config.width, _side(shapes, f"{block}.fc1.weight")),
        (f"{part}.memory_width", config.patch_width, _side(shapes, f"{block}.cross_attn.kv_proj.weight", 1)),
        (f"{part}.prefix", config.prefix, _side(shapes, f"{block}.self_attn.prefix.keys", 1)),
    ]


def _check_vision(config: CaptionerConfig, shapes: Shapes, where: object) -> None:
    with torch.device("meta"):
        vision = VisionEncoder(config.vision, config.preprocess, config.patch_width)
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
