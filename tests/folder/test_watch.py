"""Photos as they arrive: complete ones at once, others after a pause, unreadable ones reported once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from captioner.data.find import find_items
from captioner.folder.entry import Photo
from captioner.folder.job import photos_of
from captioner.folder.plan import place_of
from captioner.folder.watch import SHARE, TICK, Watch


def watch(folder: Path, waits: list[float] | None = None) -> Watch:
    place = place_of([os.fspath(folder)], None)
    return Watch(
        lambda: photos_of(find_items([folder]), place),
        interval=30.0,
        sleep=(waits if waits is not None else []).append,
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the clock is ahead, to be set by a test."""
    passed, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])
    return passed


def keys(photos: list[Photo]) -> list[str]:
    return [photo.key for photo in photos]


def test_a_file_is_left_alone_while_it_is_written(tmp_path: Path, clock: list[float]) -> None:
    rounds = watch(tmp_path).rounds()
    assert list(next(rounds)) == [], "an empty folder is waited at"
    (tmp_path / "1.jpg").write_bytes(b"half")
    os.utime(tmp_path / "1.jpg", (0, 0))  # like programs that copy with timestamps
    assert list(next(rounds)) == []
    clock[0] = 31
    assert keys(list(next(rounds))) == ["1.jpg"]
    (tmp_path / "2.jpg").write_bytes(b"other")
    clock[0] = 62
    assert keys(list(next(rounds))) == ["1.jpg", "2.jpg"], "what has its caption is the run's to know"


def test_what_failed_is_told_again_only_when_it_has_changed(tmp_path: Path, clock: list[float]) -> None:
    (tmp_path / "1.jpg").write_bytes(b"bad")
    clock[0] = 31
    watching = watch(tmp_path)
    rounds = watching.rounds()
    (photo,) = next(rounds)
    watching.failed(photo)
    assert list(next(rounds)) == []
    (tmp_path / "1.jpg").write_bytes(b"mended")
    clock[0] = 62
    assert keys(list(next(rounds))) == ["1.jpg"]


def test_a_folder_that_is_gone_is_told_once(tmp_path: Path) -> None:
    watching = watch(tmp_path / "gone")
    rounds = watching.rounds()
    (photo,) = next(rounds)
    assert "no such file or folder" in photo.problem
    watching.failed(photo)
    assert list(next(rounds)) == []


def test_large_trees_are_walked_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    ticks = iter([0.0, 0.5, 10.0, 25.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    rounds = watch(tmp_path, waits).rounds()
    assert list(next(rounds)) == []
    assert list(next(rounds)) == []
    assert sum(waits) == pytest.approx(30.0)
    next(rounds)
    assert sum(waits) == pytest.approx(30.0 + SHARE * 15.0)


def test_a_stop_ends_the_walk_and_the_pause(tmp_path: Path, clock: list[float]) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(b"photo")
    clock[0] = 31
    place, asked, waits = place_of([os.fspath(tmp_path)], None), [False], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        asked[0] = len(waits) == 3

    watching = Watch(
        lambda: photos_of(find_items([tmp_path]), place), interval=30.0, sleep=sleep, stopped=lambda: asked[0]
    )
    rounds = watching.rounds()
    assert keys(list(next(rounds))) == ["1.jpg", "2.jpg"]
    assert next(rounds, None) is None
    assert waits == [TICK] * 3
    asked[0] = False
    walk = next(watching.rounds())
    assert next(walk).key == "1.jpg"
    asked[0] = True
    assert next(walk, None) is None
