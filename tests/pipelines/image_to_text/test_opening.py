"""Refusals of the image-to-text pipeline when it opens a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import captioner
from captioner.checkpoint import Checkpoint
from captioner.errors import CheckpointError, UsageError


def test_what_cannot_be_opened(learnt: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"task": "text-generation"}, "only the task 'image-to-text', not 'text-generation'"),
        ({"tokenizer": object()}, "a captioner includes its own tokenizer"),
        ({"framework": "tf"}, "no setting framework='tf'"),
        ({"model_kwargs": {"load_in_8bit": True}}, "no setting model_kwargs="),
        ({"dtype": "float8"}, "unsupported dtype 'float8'"),
        ({"device_map": {"": 0}}, "a captioner runs on one device"),
        ({"device": 0, "device_map": "auto"}, "omit one of them"),
        ({"model": torch.nn.Linear(1, 1)}, "pipeline or checkpoint, not a Linear"),
        ({"token": "hf_secret"}, "set HF_TOKEN"),
    ]
    for given, message in cases:
        with pytest.raises(UsageError, match=message):
            captioner.pipeline(**{"model": str(learnt), **given})
    with pytest.raises(UsageError, match=r"the directory .* has no revisions; name a hub id"):
        captioner.pipeline(model=learnt, revision="v1")
    for load in (captioner.load, captioner.pipeline):
        with pytest.raises(UsageError, match=r"the shipped model has no revisions; name a hub id .* revision='v1'"):
            load(revision="v1")
    with pytest.raises(UsageError, match="org/name@v1 names a revision already"):
        captioner.load("org/name@v1", revision="v2")
    with pytest.raises(UsageError, match="generate_kwargs must be a dict of options, not 'beams=3'"):
        captioner.pipeline(model=str(learnt), generate_kwargs="beams=3")
    for name in (tmp_path / "none", "./none", tmp_path):
        with pytest.raises(CheckpointError):
            captioner.pipeline("image-to-text", name)


@pytest.mark.parametrize(
    "given",
    [{"device": -1}, {"device_map": "cpu"}, {"dtype": "int8"}, {"torch_dtype": torch.float32}, {"revision": "v1"}],
)
def test_a_model_in_memory_stays_as_it_is(given: dict[str, Any], checkpoint: Checkpoint) -> None:
    pipe = captioner.CaptionPipeline(checkpoint)
    assert captioner.pipeline(model=pipe, device="auto", dtype="auto").pipe is pipe
    for model in (pipe, checkpoint):
        with pytest.raises(UsageError, match=f"stays as it is; omit {next(iter(given))}, or name its directory"):
            captioner.pipeline(model=model, **given)
