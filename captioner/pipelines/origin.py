"""The forms of a captioner from which another process can load it again: its origin, or its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.checkpoint.files import SHIPPED_NAME
from captioner.config import GenerationConfig
from captioner.errors import UsageError, reason_of
from captioner.inference import AnyCheckpoint, Precision, PreparedCheckpoint, prepare


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
        checkpoint = load_checkpoint(source, device=choose_device(self.device))
        checkpoint.generation = self.generation or checkpoint.generation
        return prepare(checkpoint, self.precision, keep=False)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A captioner with its weights, for one that exists only in memory."""

    checkpoint: Checkpoint
    precision: Precision | None  # None for one that is not prepared

    def load(self) -> AnyCheckpoint:
        """Return the captioner, prepared for this machine if it was prepared."""
        return self.checkpoint if self.precision is None else prepare(self.checkpoint, self.precision)


def parcel(checkpoint: AnyCheckpoint, origin: Origin | None) -> Origin | Weights:
    """Return the pickled form of a captioner: its origin, or without one its original weights.

    Packed weights are for this machine alone.
    """
    if origin is not None:
        return replace(origin, generation=checkpoint.generation)
    precision = checkpoint.model.precision if isinstance(checkpoint, PreparedCheckpoint) else None
    return Weights(checkpoint=checkpoint.original(), precision=precision)


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
