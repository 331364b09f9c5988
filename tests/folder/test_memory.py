"""The memory of a run does not grow with the number of photos."""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.captioning.captions import Caption
from captioner.data import paths
from captioner.data.items import Item
from captioner.errors import ImageError
from captioner.folder.job import photos_of
from captioner.folder.plan import Plan, place_of
from captioner.folder.run import Run

CAPTION = Caption("a dog on a beach", -0.5, 0.7)


def tree(top: Path, count: int) -> Iterator[Item]:
    """Fake the photos, a hundred in each folder."""
    for n in range(count):
        yield Item.of_file(top / f"{n // 100:04}" / f"{n:07}.jpg")


def say(sources: Iterable[Any]) -> Iterator[Caption | ImageError]:
    return (CAPTION for _ in sources)


def peak(top: Path, count: int, *, again: bool = False) -> float:
    """Return the peak megabytes of a run over so many photos; ``again``: of a second run that finds them done."""
    top.mkdir(exist_ok=True)
    plan = Plan(place=place_of([os.fspath(top)], None), outputs=("jsonl", "coco"))
    tracemalloc.start()
    try:
        run = Run(plan, {})
        outcomes = sum(1 for _ in run.caption(run.todo(photos_of(tree(top, count), plan.place)), say, together=128))
        assert outcomes == (0 if again else count)
        assert run.finish() == []
        run.close()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_long_run_is_as_small_as_a_short_one(tmp_path: Path) -> None:
    """SQLite's own cache of 2 MB does not count here."""
    del [sys.intern(f"{n}.part") for n in range(60_000)][:]  # pathlib interns names: the interpreter's table grows once
    peak(tmp_path / "warm", 500)  # load lazy modules
    peak(tmp_path / "warm", 500, again=True)
    short, long = peak(tmp_path / "short", 500), peak(tmp_path / "long", 4_000)
    assert long < short + 0.3, "a caption and its path alone take 300 bytes: 3,500 more would be 1 MB"
    assert peak(tmp_path / "long", 4_000, again=True) < short + 0.3
    lines = (tmp_path / "long" / "captions.jsonl").read_text().splitlines()
    assert len({json.loads(line)["path"] for line in lines}) == len(lines) == 4_000


def test_the_walk_remembers_no_file_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        (tmp_path / f"{n}").mkdir()
        for k in range(10):
            (tmp_path / f"{n}" / f"{k}.jpg").touch()
    walker = paths.Walker()
    assert len(list(walker.visit(os.fspath(tmp_path)))) == 200
    assert walker.files == set()
    assert list(walker.visit(os.fspath(tmp_path / "3" / "4.jpg"))) == []
