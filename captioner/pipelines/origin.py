"""The place that a pipeline was loaded from, where another process can load it again."""

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
    """A checkpoint by its name, as ``Checkpoint.source`` has it, and how it was loaded.

    ``device`` is the one that was asked for: with None each machine takes its fastest. ``generation`` goes over the
    checkpoint's own settings.
    """

    source: str
    device: str | None
    precision: Precision
    generation: GenerationConfig | None = None

    def load(self) -> Checkpoint:
        """Load it again, prepared as before. Raises ``CheckpointError`` where it is not to be had."""
        from captioner.models.precision import for_inference

        source = None if self.source == SHIPPED_NAME else self.source
        checkpoint = load_checkpoint(source, device=choose_device(self.device))
        for_inference(checkpoint.model, self.precision)
        return checkpoint if self.generation is None else replace(checkpoint, generation=self.generation)


def parcel(checkpoint: Checkpoint, origin: Origin | None) -> Origin | Checkpoint:
    """Return what stands for a captioner in a pickle: its origin, or all of it where it was not prepared to caption.

    Raises ``UsageError`` for a prepared one without an origin, which is laid out for this machine and changed in memory
    from what any file holds.
    """
    if origin is not None:
        return replace(origin, generation=checkpoint.generation)
    if checkpoint.model.precision is not None:
        raise UsageError(
            "this captioner was made in memory, so no other process can load it; write it with captioner.save before "
            "it is prepared, and pickle what captioner.load makes of that directory"
        )
    return checkpoint


def choose_device(name: str | None = None) -> str:
    """The device of that name, or the fastest of this machine. Raises ``UsageError`` for one that cannot be used."""
    import torch

    if name is not None:
        try:
            torch.zeros(1, device=name).item()
        except Exception as error:  # RuntimeError, AssertionError, NotImplementedError ...: each device has its own
            raise UsageError(
                f"the device {name!r} cannot be used ({reason_of(error)}); name another one, such as cpu"
            ) from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
