"""The origin of a pipeline, from which another process can load it again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.config import GenerationConfig
from captioner.errors import UsageError, reason_of
from captioner.files import SHIPPED_NAME

if TYPE_CHECKING:
    from captioner.layers.linears import Precision


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The name of a checkpoint and the settings with which it was loaded."""

    source: str  # as in ``Checkpoint.source``
    device: str | None  # as requested; None is the fastest device of each machine
    precision: Precision
    generation: GenerationConfig | None = None  # overrides the checkpoint's own settings

    def load(self) -> Checkpoint:
        """Load and prepare the checkpoint again. Raises ``CheckpointError`` if that fails."""
        from captioner.models.precision import for_inference

        source = None if self.source == SHIPPED_NAME else self.source
        checkpoint = load_checkpoint(source, device=choose_device(self.device))
        for_inference(checkpoint.model, self.precision)
        return checkpoint if self.generation is None else replace(checkpoint, generation=self.generation)


def parcel(checkpoint: Checkpoint, origin: Origin | None) -> Origin | Checkpoint:
    """Return the pickled form of a captioner: its origin, or the whole checkpoint if it was not prepared.

    Raises ``UsageError`` for a prepared captioner without an origin: its weights are packed for this machine and exist
    in no file.
    """
    if origin is not None:
        return replace(origin, generation=checkpoint.generation)
    if checkpoint.model.precision is not None:
        raise UsageError(
            "this captioner exists only in memory, so no other process can load it; write it with captioner.save "
            "before it is prepared, and pickle the result of captioner.load"
        )
    return checkpoint


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
