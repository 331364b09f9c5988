"""`kill -9` at random moments, and the same command again: one caption for every photo, and no torn file."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = 40
KILLS = 12
exiv2 = pytest.importorskip("exiv2")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as on Unix")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write photos in three folders, with a caption beside every fifth."""
    rng = random.Random(3)
    for n in range(PHOTOS):
        folder = tmp_path / "photos" / ("", "a", "a/b")[n % 3]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise((24, 20), rng.uniform(10, 90)).convert("RGB")
        image.save(folder / f"{n}.{('jpg', 'png')[n % 2]}", quality=80)
        if n % 5 == 0:
            (folder / f"{n}.txt").write_text(f"old {n}\n")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def process(learnt: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).parent / "nursery.py"), str(learnt)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait() == 0


def start(process: subprocess.Popen[str], *arguments: object) -> int:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([*map(str, arguments)]) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def ended(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    return int(process.stdout.readline())


def rows(folder: Path) -> int:
    """Return the progress of a run, independent of the machine's speed."""
    path = folder / "captions.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def over(folder: Path) -> bool:
    """Return whether the run is finished: a repeated command would then be a new run, which appends again."""
    return rows(folder) == PHOTOS and not (folder / ".captioner.journal").exists()


def state(folder: Path) -> dict[str, Any]:
    """Return all results of a run, by content and not by order."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fspath(path.relative_to(folder))
        if path.suffix in (".jsonl", ".csv"):
            found[name] = sorted(path.read_text().splitlines())
        elif path.suffix == ".json":
            found[name] = sorted(map(json.dumps, json.loads(path.read_text())))
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def whole(folder: Path, originals: Path) -> None:
    """Check during the run that no photo and no text file is torn."""
    for path in folder.rglob("[!.]*"):
        if path.suffix == ".txt":
            text = path.read_text()
            assert text.endswith("\n"), f"{path} is torn: {text!r}"
            assert text.count("\n") == 1
        elif path.suffix in (".jpg", ".png"):
            with Image.open(path) as image, Image.open(originals / path.relative_to(folder)) as original:
                assert ImageChops.difference(image, original).getbbox() is None


@pytest.mark.parametrize("existing", ["skip", "append"])
def test_killed_again_and_again(process: subprocess.Popen[str], photos: Path, existing: str, tmp_path: Path) -> None:
    writes = "txt,jsonl,csv,metadata,coco,xmp"
    originals, calm = tmp_path / "originals", tmp_path / "calm"
    shutil.copytree(photos, originals)
    shutil.copytree(photos, calm)
    command = ("--write", writes, "--batch-size", 4, "--existing")
    rng = random.Random(f"{existing} 7")
    start(process, calm, *command, existing)
    assert ended(process) == 0
    kills, status, finished = 0, -1, False
    for _ in range(3 * KILLS):
        if finished:  # a busy machine killed too late and too seldom: once more from the start
            shutil.rmtree(photos)
            shutil.copytree(originals, photos)
            kills = 0
        goal = rows(photos) + rng.randint(0, 9)
        child = start(process, photos, *command, existing)
        with suppress(ProcessLookupError):  # it may have come to its end
            while rows(photos) < goal:
                os.kill(child, 0)
                time.sleep(0.001)
            time.sleep(rng.choice((0, 0.005, 0.02, 0.1)) * rng.random())
            os.kill(child, signal.SIGKILL)
        status = ended(process)
        kills += status != 0
        finished = status == 0 or over(photos)
        whole(photos, originals)
        if kills == KILLS or (kills > 2 and finished):
            break
    assert kills > 2
    if status != 0:  # killed when it was over, it may have left its lock, for the next run to clear away
        start(process, photos, *command, "skip" if finished else existing)
        assert ended(process) == 0
    assert state(photos) == state(calm)
    whole(photos, originals)
    names = sorted(os.fspath(path.relative_to(photos)) for path in photos.rglob("*") if path.suffix in (".jpg", ".png"))
    assert sorted(json.loads(line)["path"] for line in (photos / "captions.jsonl").read_text().splitlines()) == names
    with open(photos / "captions.csv", newline="") as file:
        assert sorted(row["path"] for row in csv.DictReader(file)) == names
    old = (photos / "0.txt").read_text()
    assert old == "old 0\n" if existing == "skip" else old.startswith("old 0, ")
    assert not list(photos.rglob(".*")), "no journal, no lock, no unfinished file"
