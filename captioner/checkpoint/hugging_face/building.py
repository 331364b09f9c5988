"""The model of an imported checkpoint: its parts put together, checked and filled with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captioner.config import CaptionerConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.models.captioner import Captioner
from captioner.models.fit import check_sizes, load_weights


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def require_layers(layers: int, state: Mapping[str, Tensor], source: object) -> None:
    """Raise ``CheckpointError`` if a config names more ``layers`` than there are tensors: it would cost hours."""
    if layers > len(state):
        raise CheckpointError(f"config.json of {source} names more layers than its weights have; download it again")


def build(parts: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]], source: object) -> Captioner:
    """Return a captioner in eval mode, of the ``parts`` of a ``CaptionerConfig`` and of ``weights`` by prefix.

    Raises ``CheckpointError`` for a config that describes no model, and for weights that do not fit it.
    """
    named = {prefix + name: value for prefix, part in weights.items() for name, value in part.items()}
    try:
        config = CaptionerConfig(**parts)
        check_sizes(config, {name: tuple(value.shape) for name, value in named.items()}, source)
        model = Captioner(config)
    except ConfigError as error:
        raise CheckpointError(f"config.json of {source} describes a model that cannot be built: {error}") from error
    load_weights(model, named, source)
    return model.eval()
