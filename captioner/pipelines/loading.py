"""A pipeline from a name, on the fastest device there is."""

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
    """A pipeline from a checkpoint directory, a Hugging Face hub id, or with nothing the model that ships.

    ``revision``: the branch, tag or commit of a hub id; ``org/name@revision`` says the same. ``device``: as torch names
    it; the first CUDA device, else Apple's, else the CPU, where left out. ``precision`` of the weights: less is faster.
    The model is prepared for captioning alone; ``captioner.checkpoint.load`` gives one that can be trained and saved.
    """
    if revision is not None:
        source = f"{source}@{revision}"
    pipe = prepared(load_checkpoint(source, device=choose_device(device)), precision)
    pipe.origin = Origin(source=pipe.checkpoint.source, device=device, precision=precision)
    return pipe


def prepared(checkpoint: Checkpoint, precision: Precision) -> CaptionPipeline:
    """A pipeline from a checkpoint in memory, which from then on only captions."""
    from captioner.models.precision import for_inference

    for_inference(checkpoint.model, precision)
    return CaptionPipeline(checkpoint)
