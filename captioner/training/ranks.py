"""What the processes of a run tell each other, and how a model too large for each is divided among them.

Gradients are synchronised by the wrappers (DDP, FSDP); this is the rest. With one process all of it does nothing.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from captioner.errors import ConfigError, TrainingError
from captioner.models.captioner import Captioner
from captioner.models.decoder import Block

T = TypeVar("T")
V = TypeVar("V")


def my_part(items: Sequence[T]) -> Sequence[T]:
    """Every n-th of the items from this process on, of n processes."""
    return items[dist.get_rank() :: dist.get_world_size()] if dist.is_initialized() else items


def gathered(value: V) -> list[V]:
    """What each process has, in the order of the processes; all of them have to ask."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def in_turn(parts: Sequence[Sequence[T]]) -> list[T]:
    """The inverse of ``my_part`` on what was gathered."""
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]


def total_of(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Sums and counts by name, added up; a process without items has no names."""
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: (sum(a for a, _ in pairs), sum(b for _, b in pairs)) for name, pairs in found.items()}


@contextmanager
def told_of_the_dead() -> Iterator[None]:
    """Say in a sentence that another process is gone: what waits for it fails with the words of its library."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        if not dist.is_initialized() or not any(word in said for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise TrainingError(
            f"another process of this run has died or hangs ({str(error).strip().splitlines()[0][:120]}); look at what "
            "it said, and go on with --resume, on as many processes as you like"
        ) from error


def sharding() -> bool:
    """Whether ``accelerate launch`` was told to use FSDP; it says so to its processes by this variable."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return asked and dist.is_initialized() and dist.get_world_size() > 1


def sharded(model: Captioner) -> Captioner:
    """A copy of ``model`` whose parameters are divided among the processes (FSDP, Zhao et al. 2023, arXiv 2304.11277).

    Gradients and the optimizer's moments are divided for good. Of each block of the decoder the large layers are
    gathered when they are used and let go after it; the rest is gathered for a step, since the encoder's features and
    the keys of the image are made by methods that FSDP does not watch. Raises ``ConfigError`` for what cannot be
    divided.
    """
    from torch.distributed.fsdp import fully_shard

    if os.environ.get("FSDP_VERSION", "2") == "1":
        raise ConfigError("FSDP of the first version is not supported; set fsdp_version to 2 in accelerate's config")
    if model.adapter is not None:
        raise ConfigError("an adapter is small and needs no FSDP; start without it, and every process keeps the model")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # views of logits, which nobody writes into
    divided = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # FSDP cuts no other
    for block in cast(list[Block], divided.decoder.blocks):
        fully_shard([block.self_attn, block.fc1, block.fc2])
    fully_shard(divided)
    return divided


@torch.no_grad()
def whole(value: Any) -> Any:
    """A tensor, or all tensors in a container, undivided; all processes have to ask."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(item) for item in value)
    return value


def divided_like(state: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """The state of an optimizer of these ``parameters``, divided as they are. The inverse of ``whole``."""
    from torch.distributed.tensor import distribute_tensor

    def fit(value: Any, parameter: Any) -> Any:
        if not isinstance(value, Tensor) or not hasattr(parameter, "device_mesh") or value.shape != parameter.shape:
            return value
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)

    moments = {
        place: {name: fit(value, parameters[place]) for name, value in of_one.items()}
        for place, of_one in state["state"].items()
    }
    return {**state, "state": moments}
