"""A checkpoint prepared for inference, and the way back to the one that can be trained and saved."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from captioner.checkpoint import Base, Checkpoint, load
from captioner.checkpoint.files import EXPORT, SHIPPED_NAME
from captioner.config import CaptionerConfig, GenerationConfig
from captioner.errors import CheckpointError
from captioner.inference.precision import Precision
from captioner.text import CaptionTokenizer

if TYPE_CHECKING:
    from captioner.inference.onnx.model import OnnxModel
    from captioner.inference.prepared import Prepared


@dataclass(kw_only=True)
class PreparedCheckpoint:
    """A captioner prepared for inference, with all that its checkpoint holds beside the weights.

    ::

        prepared = prepare(load("out/best"), "int8")
        prepared.model.precision
        save(prepared, "copy")  # the original weights
    """

    model: Prepared | OnnxModel
    tokenizer: CaptionTokenizer
    generation: GenerationConfig  # decoding defaults
    training: Mapping[str, Any]  # content of training.json
    card: str  # the model card, in Markdown
    source: str  # as in ``Checkpoint``
    base: Base | None  # as in ``Checkpoint``; the adapter itself is merged
    device: str
    kept: Checkpoint | None  # the checkpoint that was prepared; None if ``prepare`` freed its weights
    checksum: int | None = None  # of the weights that it freed

    @property
    def config(self) -> CaptionerConfig:
        """The configuration that the model was built from."""
        return self.model.config

    def original(self) -> Checkpoint:
        """Return the captioner that can be trained and saved, with the present options.

        If ``prepare`` freed its weights, load them again from ``source``. Raises ``CheckpointError`` if that fails, or
        if ``source`` holds other weights by now.
        """
        if self.kept is None and not self.source:
            raise CheckpointError(
                "this captioner has lost its original weights, and no checkpoint holds them; prepare it with keep=True"
            )
        checkpoint = self.kept or load(None if self.source == SHIPPED_NAME else self.source, device=self.device)
        if self.kept is None and self.checksum != checksum(checkpoint):
            raise CheckpointError(
                f"{self.source} holds other weights than this captioner was made from; load it again, or restore them"
            )
        return replace(checkpoint, generation=self.generation, training=self.training, card=self.card)


AnyCheckpoint: TypeAlias = Checkpoint | PreparedCheckpoint
"""A captioner that captions: as it was trained, or prepared."""


def checksum(checkpoint: Checkpoint) -> int:
    """Return the CRC-32 of all weights and their names, on any device; it takes a second for a gigabyte."""
    import torch

    found = 0
    for name, value in checkpoint.model.state_dict().items():
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(value.cpu().reshape(-1).view(torch.uint8).numpy(), found)
    return found


class Holder(Protocol):
    """An object that holds a captioner, such as a pipeline."""

    @property
    def checkpoint(self) -> AnyCheckpoint:
        """The captioner."""


def checkpoint_of(captioner: AnyCheckpoint | Holder) -> AnyCheckpoint:
    """Return the checkpoint of a pipeline; return a checkpoint itself."""
    return captioner if isinstance(captioner, (Checkpoint, PreparedCheckpoint)) else captioner.checkpoint


def load_prepared(
    source: str | os.PathLike[str] | None,
    precision: Precision,
    *,
    device: str | None,
    choose: Callable[[str | None], str],
) -> PreparedCheckpoint:
    """Load a captioner and prepare it for inference: anything that ``load`` accepts, or an ONNX export.

    ``choose`` turns ``device`` into a torch device that can be used; an export runs on the CPU. Raises
    ``CheckpointError`` and ``UsageError`` as ``load`` and ``prepare`` do.
    """
    if source is not None and (Path(source) / EXPORT).exists():
        from captioner.inference.onnx.opening import open_export

        return open_export(Path(source), precision, device)
    return prepare(load(source, device=choose(device)), precision, keep=False)


def prepare(checkpoint: Checkpoint, precision: Precision, *, keep: bool = True) -> PreparedCheckpoint:
    """Prepare a captioner for inference, on its current device.

    ``keep``: leave ``checkpoint`` as it is, which takes the memory of both; without it, its model is empty afterwards,
    and no more memory is needed than for one. Raises ``UsageError`` for int8 on a device other than a CPU.
    """
    from captioner.inference.prepared import prepare_model

    device = str(next(checkpoint.model.parameters()).device)
    freed = None if keep else checksum(checkpoint)
    return PreparedCheckpoint(
        model=prepare_model(checkpoint.model, precision, keep=keep),
        tokenizer=checkpoint.tokenizer,
        generation=checkpoint.generation,
        training=checkpoint.training,
        card=checkpoint.card,
        source=checkpoint.source,
        base=checkpoint.base,
        device=device,
        kept=checkpoint if keep else None,
        checksum=freed,
    )
