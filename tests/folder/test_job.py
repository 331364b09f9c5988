"""A job: the model is loaded for the first photo that needs it, and the settings identify the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.captioning.captions import Caption
from captioner.data.find import find_items
from captioner.folder.job import Job
from captioner.folder.plan import Plan, place_of


class Pipe:
    """A pipeline that writes the same caption for all photos."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def stream(self, sources: Iterable[object], **options: Any) -> Iterator[Caption]:
        self.calls.append(options)
        return (Caption("a dog", -1.0) for _ in sources)


@pytest.fixture
def job(toy: Path, tmp_path: Path) -> Job:
    photos = [str(toy / "images" / f"0000{number}.png") for number in range(2)]
    return Job(
        plan=Plan(place=place_of(photos, str(tmp_path)), outputs=("txt",)),
        walk=lambda left: find_items(photos, left=left),
        model={"model": None},
        batch_size=3,
        options={"beams": 2},
    )


def run(job: Job, pipe: Pipe) -> list[str]:
    work = job.open()
    try:
        states = [outcome.state for outcome in job.outcomes(work, job.photos(), lambda: pipe)]  # type: ignore[arg-type,return-value]
        assert work.finish() == []
        return states
    finally:
        work.close()


def test_options_reach_the_model_once(job: Job) -> None:
    pipe = Pipe()
    assert run(job, pipe) == ["captioned", "captioned"]
    assert pipe.calls == [{"count": 1, "batch_size": 3, "beams": 2}]
    assert run(job, pipe) == []
    assert len(pipe.calls) == 1, "nothing needed a caption"


def test_settings_identify_the_run(job: Job) -> None:
    work = job.open()
    try:
        settings = work.journal.get("run")
    finally:
        work.close()
    assert {name: settings[name] for name in ("model", "count", "options")} == {
        "model": None,
        "count": 1,
        "options": {"beams": 2},
    }
