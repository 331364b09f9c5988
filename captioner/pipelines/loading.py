"""Loading of a pipeline by name, on the fastest available device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from captioner.checkpoint import Checkpoint
from captioner.checkpoint import load as load_checkpoint
from captioner.pipelines.origin import Origin, choose_device
from captioner.pipelines.pipeline import CaptionPipeline

if TYPE_CHECKING:
    from captioner.layers.linears import Precision


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    precision: Precision = "fp32",
    revision: str | None = None,
) -> CaptionPipeline:
    """Load a pipeline from a checkpoint directory or a Hugging Face hub id; by default the shipped model.

    ``revision``: the branch, tag or commit of a hub id, the same as ``org/name@revision``. ``device``: a torch device;
    by default the first CUDA device, else Apple's, else the CPU. ``precision``: of the weights; lower is faster. The
    model is prepared for inference only; ``captioner.checkpoint.load`` returns one that can be trained and saved.
    """
    if revision is not None:
        source = f"{source}@{revision}"
    pipe = prepared(load_checkpoint(source, device=choose_device(device)), precision)
    pipe.origin = Origin(source=pipe.checkpoint.source, device=device, precision=precision)
    return pipe


def prepared(checkpoint: Checkpoint, precision: Precision) -> CaptionPipeline:
    """Prepare a checkpoint in memory for inference and return its pipeline."""
    from captioner.models.precision import for_inference

    for_inference(checkpoint.model, precision)
    return CaptionPipeline(checkpoint)
