"""Output without disk space, without permission, or with a second run at once: one sentence, and no lost caption."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import Done, Step, start
from images import encoded, photo

PHOTOS = 30


def photos(folder: Path, mode: int, count: int = PHOTOS) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encoded(photo(8 + number, 8), "PNG"))
    folder.chmod(mode)
    return folder


@pytest.fixture(scope="module")
def done(top: Path, model: Path) -> dict[str, Done]:
    """Return every run by its name, all from one process."""
    locked, small, both = photos(top / "locked", 0o555, 2), photos(top / "small", 0o777), photos(top / "both", 0o777)
    outside = top / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    steps = {
        "full stdout": Step(arguments=[str(small)], out="/dev/full"),
        "read-only sidecars": Step(arguments=[str(locked), "--write", "txt"]),
        "read-only table": Step(arguments=[str(locked), "--write", "jsonl"]),
        "read-only, elsewhere": Step(arguments=[str(locked), "--write", "txt", "--out", str(outside)]),
        "no room": Step(arguments=[str(small), "--write", "jsonl,txt"], file_size=1000),
        "room again": Step(arguments=[str(small), "--write", "jsonl,txt"]),
        "two at once": Step(arguments=[str(both), "--write", "jsonl,txt", "--batch-size", "1"], twice=True),
    }
    return dict(zip(steps, start(model, list(steps.values()), top / "targets"), strict=True))


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("full stdout", "No space left on device; free some space, or write to another folder"),
        ("read-only sidecars", "permission denied; write elsewhere with --out DIR"),
        ("read-only table", "permission denied; write elsewhere with --out DIR"),
        ("no room", "the disk is full or broken; free some space and repeat the command to resume"),
    ],
)
def test_one_sentence_says_why(run: str, sentence: str, done: dict[str, Done]) -> None:
    assert done[run].codes == [1]
    lines = done[run].err[0].splitlines()
    assert lines
    assert all(line.startswith("captioner: ") and "Traceback" not in line for line in lines)
    assert sentence in lines[0]


def test_a_folder_that_may_not_be_written_is_written_beside(top: Path, done: dict[str, Done]) -> None:
    assert (done["read-only, elsewhere"].codes, done["read-only, elsewhere"].err) == ([0], ["captioner: 2 captioned\n"])
    assert sorted(os.listdir(top / "outside")) == ["0.txt", "1.txt"]
    assert sorted(os.listdir(top / "locked")) == ["0.png", "1.png"]


@pytest.mark.parametrize("folder", ["small", "both"])
def test_each_photo_has_its_caption_once(folder: str, top: Path, done: dict[str, Done]) -> None:
    """After a full disk, and after two runs at once, no caption is lost or duplicate."""
    records = [json.loads(line) for line in (top / folder / "captions.jsonl").read_text().splitlines()]
    assert sorted(record["path"] for record in records) == sorted(f"{n}.png" for n in range(PHOTOS))
    assert len(list((top / folder).glob("*.txt"))) == PHOTOS
    assert not [name for name in os.listdir(top / folder) if "captioner" in name or "partial" in name]
    assert done["room again"].codes == [0]


def test_of_two_runs_at_once_one_is_told_to_wait(done: dict[str, Done]) -> None:
    found = done["two at once"]
    refused = [err for code, err in zip(found.codes, found.err, strict=True) if code]
    assert all("another run is writing to" in err and err.count("\n") == 1 for err in refused)
    assert 0 in found.codes
