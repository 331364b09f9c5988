"""Loading of a pipeline by name, on the fastest available device."""

from __future__ import annotations

import os

from captioner.checkpoint import Checkpoint
from captioner.errors import UsageError
from captioner.inference import Precision, load_prepared, prepare
from captioner.pipelines.origin import Origin, choose_device
from captioner.pipelines.pipeline import CaptionPipeline


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    precision: Precision = "fp32",
    revision: str | None = None,
) -> CaptionPipeline:
    """Load a pipeline from a checkpoint directory, an ONNX export or a hub id; by default the shipped model.

    ``revision``: the branch, tag or commit of a hub id, the same as ``org/name@revision``. ``device``: a torch device;
    by default the first CUDA device, else Apple's, else the CPU. ``precision``: of the weights; lower is faster. Only
    the prepared weights are held in memory; saving and training load the original ones again. Raises ``UsageError`` for
    a ``revision`` without a ``source``, ``CheckpointError`` for a source that cannot be loaded.
    """
    if revision is not None:
        if source is None or os.path.isdir(source):
            what = "the shipped model" if source is None else f"the directory {os.fspath(source)}"
            raise UsageError(f"{what} has no revisions; name a hub id (org/name) for revision={revision!r}, or omit it")
        if "@" in os.fspath(source):
            raise UsageError(f"{os.fspath(source)} names a revision already; leave out revision={revision!r}")
        source = f"{source}@{revision}"
    checkpoint = load_prepared(source, precision, device=device, choose=choose_device)
    pipe = CaptionPipeline(checkpoint)
    pipe.origin = Origin(source=checkpoint.source, device=device, precision=precision)
    return pipe


def prepared(checkpoint: Checkpoint, precision: Precision) -> CaptionPipeline:
    """Prepare a checkpoint in memory for inference and return its pipeline; the checkpoint stays as it is."""
    return CaptionPipeline(prepare(checkpoint, precision))
