"""Metrics: what was asked, what was said, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from captioner.serving.metrics import REMEMBERED, Metrics
from captioner.serving.tasks import Reply


def samples(page: str) -> dict[str, float]:
    """Return the samples of a page by name and labels."""
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def said(metrics: Metrics, *captions: str) -> dict[str, float]:
    words = [[[word, 0.5] for word in (text.split() if text.isascii() else text)] for text in captions]
    records = [{"caption": a, "confidence": 0.55, "words": b} for a, b in zip(captions, words, strict=True)]
    metrics.batch(Reply(records=records, seconds={"read": 0.2}))
    return samples(metrics.page().decode())


def test_repetitions_and_stuttering_are_counted() -> None:
    metrics = Metrics()
    found = said(metrics, "a red circle", "a red circle", "a dog and a dog", "the the dog", "一只猫")
    assert found["captioner_repeated_captions_total"] == 1
    assert found["captioner_stuttering_captions_total"] == 2
    assert found["captioner_caption_confidence_sum"] == 5 * 0.55
    assert found["captioner_caption_words_count"] == 5
    assert found["captioner_caption_words_sum"] == 3 + 3 + 5 + 3 + 3, "Chinese has no spaces"
    assert found["captioner_stage_seconds_sum,stage=read"] == 0.2


def test_only_recent_captions_are_remembered() -> None:
    metrics = Metrics()
    said(metrics, "first", *(str(n) for n in range(REMEMBERED)))
    assert said(metrics, "first", "999")["captioner_repeated_captions_total"] == 1


def test_metrics_have_a_registry_of_their_own() -> None:
    Metrics(), Metrics()
    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("captioner")]


def test_a_server_counts_its_requests(start: Callable[..., Any], photos: Path) -> None:
    server = start()
    with server.client() as client:
        client.post("/caption", files=[("image", (photos / name).read_bytes()) for name in ("0.png", "1.jpg")])
        client.post("/caption", files={"image": b"no image"})
        client.post("/sdapi/v1/interrogate", json={"image": "AAAA"})
        client.get("/none")
        client.get("/livez")
        page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(page.text)
    assert found["captioner_requests_total,protocol=own,status=200"] == 1
    assert found["captioner_requests_total,protocol=own,status=400"] == 1
    assert found["captioner_requests_total,protocol=a1111,status=400"] == 1
    assert found["captioner_photos_total,outcome=captioned"] == 2
    assert found["captioner_photos_total,outcome=refused"] == 2
    assert found["captioner_errors_total,kind=photo"] == 2
    assert found["captioner_errors_total,kind=path"] == 1
    assert found["captioner_batch_photos_count"] == 3
    assert found["captioner_queue_photos"] == 0
    assert found["captioner_model_loaded"] == 1
    assert found["captioner_memory_bytes,process=server"] > 1e6
    assert found["captioner_memory_bytes,process=model"] > 1e6
    for stage in ("queue", "read", "encode", "write"):
        assert found[f"captioner_stage_seconds_count,stage={stage}"] > 0
    assert not re.search("livez|none", page.text), "labels do not grow with what clients send"
