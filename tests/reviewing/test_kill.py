"""`kill -9` while changes are saved: what was saved stays, and an interrupted save is whole or nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.data.decisions import FILE
from captioner.folder.plan import Output
from captioner.reviewing.seen import Change
from captioner.reviewing.shelf import Shelf

from .conftest import at, files

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as on Unix")
OUTPUTS: tuple[Output, ...] = ("txt", "jsonl", "csv")


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Start ``work`` in a process that ends after it; return its id and the pipe that it writes to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def everywhere(photos: Path, name: str) -> set[str]:
    """Return the caption of a photo in each of the files."""
    rows = [json.loads(line) for line in (photos / "captions.jsonl").read_text().splitlines()]
    jsonl = [row["caption"] for row in rows if row["path"] == f"{name}.png"]
    csv = [line.split(",")[1] for line in (photos / "captions.csv").read_text().splitlines() if line.startswith(name)]
    assert len(jsonl) == len(csv) == 1
    return {(photos / f"{name}.txt").read_text().strip(), *jsonl, *csv}


@pytest.fixture
def captioned(photos: Path) -> Path:
    shelf = Shelf(str(photos), outputs=OUTPUTS)
    shelf.save([Change(id=s.id, version=s.version, captions=("old",), state="accepted") for s in shelf.all()])
    return photos


def test_killed_at_each_step_of_a_save(captioned: Path) -> None:
    """The process dies at its first, second, third ... flush or rename, until a save survives."""
    outcomes = []
    for step in range(1, 40):
        text = f"new {step}"

        def work(pipe: int, step: int = step, text: str = text) -> None:
            shelf, calls = Shelf(str(captioned)), 0
            seen = [at(shelf, name) for name in ("1.png", "2.png")]

            def dying(real: Callable[..., object]) -> Callable[..., object]:
                def call(*args: object) -> object:
                    nonlocal calls
                    calls += 1
                    if calls == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args)

                return call

            os.fsync, os.replace = dying(os.fsync), dying(os.replace)  # type: ignore[assignment]
            shelf.save([Change(id=s.id, version=s.version, captions=(text,), state="edited") for s in seen])
            os.write(pipe, b"saved")

        child, pipe = forked(work)
        status = os.waitpid(child, 0)[1]
        with os.fdopen(pipe, "rb") as file:
            saved = file.read() == b"saved"
        shelf = Shelf(str(captioned))
        found = {(at(shelf, name).texts, at(shelf, name).state) for name in ("1.png", "2.png")}
        assert len(found) == 1, "both changes, or none"
        [((caption,), _)] = found
        assert everywhere(captioned, "1") == everywhere(captioned, "2") == {caption}
        assert caption == text or not saved
        outcomes.append(caption == text)
        assert not [name for name in files(captioned) if name.startswith(".")], step
        if status == 0:
            break
    assert saved
    assert len(outcomes) > 8
    assert outcomes.count(False) <= 1, "a save is complete once its decisions are on the disk"


def test_killed_at_random_moments(captioned: Path) -> None:
    rng = random.Random(4)
    for first in range(0, 4000, 1000):

        def work(pipe: int, first: int = first) -> None:
            shelf = Shelf(str(captioned))
            for n in range(first, first + 1000):
                name = f"{n % 2 + 1}.png"
                seen = at(shelf, name)
                shelf.save([Change(id=seen.id, version=seen.version, captions=(f"{name} {n}",), state="edited")])
                os.write(pipe, f"{n}\n".encode())

        child, pipe = forked(work)
        with os.fdopen(pipe, "rb") as file:
            file.readline()
            file.readline()
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            last = max(map(int, file.read().split()), default=first + 1)
        shelf = Shelf(str(captioned))
        numbers = {name: int(at(shelf, f"{name}.png").texts[0].rpartition(" ")[2]) for name in "12"}
        assert max(numbers.values()) in (last, last + 1)
        for name in "12":
            assert at(shelf, f"{name}.png").state == "edited"
            assert everywhere(captioned, name) == set(at(shelf, f"{name}.png").texts)


def test_a_line_that_a_crash_cut_is_skipped(captioned: Path) -> None:
    with open(captioned / FILE, "ab") as file:
        file.write(b'{"path": "1.png", "state": "rej')
    shelf = Shelf(str(captioned))
    assert at(shelf, "1.png").state == "accepted"
    seen = at(shelf, "1.png")
    shelf.save([Change(id=seen.id, version=seen.version, captions=seen.texts, state="rejected")])
    assert [at(Shelf(str(captioned)), name).state for name in ("1.png", "2.png")] == ["rejected", "accepted"]
