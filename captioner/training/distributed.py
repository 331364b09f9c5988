"""Distributed training: the exchange of values between processes, and sharding with FSDP.

The wrappers (DDP, FSDP) synchronise gradients. With one process, every function here does nothing.
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


def rank_share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of the items: every n-th from its rank on, for n processes."""
    return items[dist.get_rank() :: dist.get_world_size()] if dist.is_initialized() else items


def gather_objects(value: V) -> list[V]:
    """Return the values of all processes in the order of their ranks; every process must call it."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """Return the items in their original order, from the gathered shares of ``rank_share``."""
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]


def total_of(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Return the totals of sums and counts by name; a process without items has no names."""
    names = dict.fromkeys(name for part in parts for name in part)
    by_name = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: (sum(a for a, _ in pairs), sum(b for _, b in pairs)) for name, pairs in by_name.items()}


@contextmanager
def explain_dead_process() -> Iterator[None]:
    """Raise ``TrainingError`` when another process is gone, in place of the communication library's error."""
    try:
        yield
    except RuntimeError as error:
        message = str(error).lower()
        if not dist.is_initialized() or not any(word in message for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise TrainingError(
            f"another process of this run has died or hangs ({str(error).strip().splitlines()[0][:120]}); look at its "
            "messages, and repeat the command with --resume, on any number of processes"
        ) from error


def sharding() -> bool:
    """Return whether this run uses FSDP; ``accelerate launch`` sets a variable for it."""
    requested = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return requested and dist.is_initialized() and dist.get_world_size() > 1


def shard(model: Captioner) -> Captioner:
    """Return a copy of ``model`` sharded over the processes (FSDP, Zhao et al. 2023, arXiv 2304.11277).

    Gradients and the optimizer's moments stay sharded. FSDP gathers the large layers of each decoder block for their
    use, and all other parameters for the whole step, since methods outside FSDP's hooks compute the encoder's features
    and the keys of the image. Raises ``ConfigError`` for a model that FSDP cannot shard.
    """
    from torch.distributed.fsdp import fully_shard

    if os.environ.get("FSDP_VERSION", "2") == "1":
        raise ConfigError("FSDP version 1 is not supported; set fsdp_version to 2 in accelerate's config")
    if model.adapter is not None:
        raise ConfigError("FSDP does not support an adapter; start without FSDP, and every process keeps the model")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # views of logits, which are never written to
    divided = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # the only format that FSDP shards
    for block in cast(list[Block], divided.decoder.blocks):
        fully_shard([block.self_attn, block.fc1, block.fc2])
    fully_shard(divided)
    return divided


@torch.no_grad()
def unshard(value: Any) -> Any:
    """Return a tensor, or all tensors in a container, unsharded; every process must call it."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: unshard(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unshard(item) for item in value)
    return value


def shard_like(state: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return an optimizer's state sharded like its ``parameters``; the inverse of ``unshard``."""
    from torch.distributed.tensor import distribute_tensor

    def fit(value: Any, parameter: Any) -> Any:
        if not isinstance(value, Tensor) or not hasattr(parameter, "device_mesh") or value.shape != parameter.shape:
            return value
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)

    moments = {
        place: {name: fit(value, parameters[place]) for name, value in values.items()}
        for place, values in state["state"].items()
    }
    return {**state, "state": moments}
