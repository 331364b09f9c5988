"""The captioner of a pipeline as others need it: saved, pushed, or with the weights that training goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from captioner.checkpoint import Checkpoint, save
from captioner.hub import push_to_hub
from captioner.inference import AnyCheckpoint
from captioner.pipelines.origin import Origin


class Saving:
    """The methods of ``CaptionPipeline`` that need the original weights, of which it holds only the prepared form."""

    def __init__(self, checkpoint: AnyCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.origin: Origin | None = None  # set by ``load``

    def original(self) -> Checkpoint:
        """Return the captioner that can be trained and saved, with the pipeline's present options.

        A pipeline from ``load`` loads it again from the same checkpoint; one of a captioner in memory has kept it.
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
