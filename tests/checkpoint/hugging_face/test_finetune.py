"""An imported BLIP is fine-tuned like any captioner, whole or with an adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captioner.checkpoint import load, merged
from captioner.config import AdapterConfig
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data

WHOLE = {"epochs": 60, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.0, "vision": "all", "vision_lr": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "nats"), [(None, 1.0), ("lora", 0.15)])  # an adapter of random weights learns less
def test_it_ends_above_its_start(
    method: Any,
    nats: float,
    blip: Callable[..., tuple[Any, Path]],
    recipe: Callable[..., Recipe],
    data: Data,
    tmp_path: Path,
) -> None:
    one = tuple(replace(sample, captions=sample.captions[:1]) for sample in data.train)
    words = sorted({word for sample in one for caption in sample.captions for word in re.findall(r"\w+", caption)})
    _, source = blip(None, more=words, max_position_embeddings=60)
    start = load(source)
    plan = recipe({**WHOLE, "validate_every": 20}, captions_per_image=1)
    if method:
        targets = ("q_proj", "qkv_proj", "kv_proj", "out_proj", "fc1", "fc2")
        plan = replace(plan, adapter=AdapterConfig(method=method, rank=8, alpha=32, targets=targets))
    best = train(plan, replace(data, train=one, validation=one), tmp_path / "run", start=start)
    lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    scores = [line["token_nll"] for line in lines if line["kind"] == "validation"]
    assert min(scores) < scores[0] - nats
    tuned = merged(load(best))
    assert tuned.config.decoder.norm == "post"
    assert tuned.tokenizer.decode(tuned.tokenizer.encode(one[0].captions[0])) == one[0].captions[0]
