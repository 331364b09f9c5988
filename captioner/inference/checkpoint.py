"""A checkpoint prepared for inference, and the way back to the one that can be trained and saved."""

from __future__ import annotations

import os
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

    @property
    def config(self) -> CaptionerConfig:
        """The configuration that the model was built from."""
        return self.model.config

    def original(self) -> Checkpoint:
        """Return the captioner that can be trained and saved, with the present options.

        If ``prepare`` freed its weights, load them again from ``source``. Raises ``CheckpointError`` if that fails.
        """
        if self.kept is None and not self.source:
            raise CheckpointError(
                "this captioner has lost its original weights, and no checkpoint holds them; prepare it with keep=True"
            )
        checkpoint = self.kept or load(None if self.source == SHIPPED_NAME else self.source, device=self.device)
        return replace(checkpoint, generation=self.generation, training=self.training, card=self.card)


AnyCheckpoint: TypeAlias = Checkpoint | PreparedCheckpoint
"""A captioner that captions: as it was trained, or prepared."""


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
    )
