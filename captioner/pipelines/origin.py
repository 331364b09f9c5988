"""The part of the pipeline that saves, pushes and pickles its captioner, as its origin or its weights."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from captioner.checkpoint import Checkpoint, save
from captioner.checkpoint.files import SHIPPED_NAME
from captioner.config import GenerationConfig
from captioner.errors import UsageError, reason_of
from captioner.hub import push_to_hub
from captioner.inference import AnyCheckpoint, Precision, PreparedCheckpoint, load_prepared, prepare

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The name of a checkpoint and the settings with which it was loaded."""

    source: str  # as in ``Checkpoint.source``
    device: str | None  # as requested; None is the fastest device of each machine
    precision: Precision
    generation: GenerationConfig | None = None  # overrides the checkpoint's own settings

    def load(self) -> PreparedCheckpoint:
        """Load and prepare the checkpoint again. Raises ``CheckpointError`` if that fails."""
        source = None if self.source == SHIPPED_NAME else self.source
        checkpoint = load_prepared(source, self.precision, device=self.device, choose=choose_device)
        checkpoint.generation = self.generation or checkpoint.generation
        return checkpoint


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A captioner with its weights, for one that exists only in memory."""

    checkpoint: Checkpoint
    precision: Precision | None  # None for one that is not prepared

    def load(self) -> AnyCheckpoint:
        """Return the captioner, prepared for this machine if it was prepared."""
        return self.checkpoint if self.precision is None else prepare(self.checkpoint, self.precision)


def pickled_form(checkpoint: AnyCheckpoint, origin: Origin | None) -> Origin | Weights:
    """Return the pickled form of a captioner: its origin, or without one its original weights.

    Packed weights are for this machine alone.
    """
    if origin is not None:
        return replace(origin, generation=checkpoint.generation)
    precision = checkpoint.model.precision if isinstance(checkpoint, PreparedCheckpoint) else None
    return Weights(checkpoint=checkpoint.original(), precision=precision)


class PortableMixin:
    """The ways of a pipeline out of its process: saving, pushing to the hub, pickling, and its trainable form."""

    checkpoint: AnyCheckpoint
    origin: Origin | None

    def original(self) -> Checkpoint:
        """Return the captioner that can be trained and saved, with the pipeline's present options.

        A pipeline from ``load`` loads it again from the same checkpoint; one of a captioner in memory keeps it.
        Raises ``CheckpointError`` if the checkpoint is gone.
        """
        return self.checkpoint.original()

    def save(self, directory: str | os.PathLike[str], *, dtype: Literal["fp32", "fp16"] = "fp32") -> Path:
        """Save the captioner with its present options, as ``captioner.save`` does."""
        return save(self, directory, dtype=dtype)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        license: str | None = None,
        message: str = "Push a captioner",
        token: str | bool | None = None,
    ) -> str:
        """Push the captioner with its present options, as ``captioner.push_to_hub`` does."""
        return push_to_hub(
            self,
            name,
            private=private,
            revision=revision,
            license=license,
            message=message,
            token=token,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the pipeline as the name of its checkpoint, or with its weights if ``load`` did not load it."""
        rest = {name: value for name, value in self.__dict__.items() if name != "checkpoint"}
        return _unpickled, (type(self), pickled_form(self.checkpoint, self.origin)), rest

    def __copy__(self) -> Self:
        return self._copy_of(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._copy_of(copy.deepcopy(self.__dict__, memo))

    def _copy_of(self, values: dict[str, Any]) -> Self:
        pipe = object.__new__(type(self))
        pipe.__dict__.update(values)
        return pipe


def _unpickled(kind: type[PortableMixin], source: Origin | Weights) -> PortableMixin:
    pipe = object.__new__(kind)
    pipe.checkpoint = source.load()
    return pipe


def choose_device(name: str | None = None) -> str:
    """Return the device ``name``, or this machine's fastest. Raises ``UsageError`` for an unusable device."""
    import torch

    if name is not None:
        try:
            torch.zeros(1, device=name).item()
        except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ... depending on the device
            raise UsageError(
                f"the device {name!r} cannot be used ({reason_of(error)}); choose another one, such as cpu"
            ) from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
