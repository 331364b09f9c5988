"""Decisions of people as training data."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from captioner.data.decisions import FILE, Decision, parse, read_accepted
from captioner.data.sources import read_splits
from captioner.data.splits import ALL
from captioner.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"old {name}\n")
    lines = [
        Decision(path="a.png", state="rejected", captions=("old a",)),
        Decision(path="a.png", state="accepted", captions=("old a",)),
        Decision(path="b.png", state="edited", captions=("a new b", "another"), was=("old b",)),
        Decision(path="c.png", state="rejected", captions=("old c",)),
        Decision(path="d.png", state="", captions=("old d",)),
    ]
    (tmp_path / FILE).write_bytes(b"".join(line.line(time="now") for line in lines))
    return tmp_path


def test_accepted_captions_are_a_dataset(folder: Path) -> None:
    for data in (folder, folder / FILE):
        found = read_accepted(data)
        assert [(sample.name, sample.captions) for sample in found.splits[ALL]] == [
            ("a.png", ("old a",)),
            ("b.png", ("a new b", "another")),
        ]
        assert found.notes[-1].endswith("2 images with reviewed captions; 1 rejected and left out")
    assert len(read_splits(folder).splits[ALL]) == 4, "without --accepted, the file is not a file of captions"


def test_accepted_photos_stay_in_the_splits_of_their_dataset(folder: Path) -> None:
    with open(folder / FILE, "ab") as file:
        for name in "cd":
            file.write(Decision(path=f"{name}.png", state="accepted", captions=(f"new {name}",)).line())
    (folder / "train.jsonl").write_text('{"file_name": "./a.png", "text": "old a"}\n')
    (folder / "test.jsonl").write_text('{"file_name": "b.png", "text": "x"}\n{"file_name": "c.png", "text": "x"}\n')
    found = read_accepted(folder)
    assert {split: [(s.name, s.captions) for s in samples] for split, samples in found.splits.items()} == {
        "train": [("./a.png", ("old a",))],
        "test": [("b.png", ("a new b", "another")), ("c.png", ("new c",))],
    }
    assert found.problems == ("1 image is in no split and was left out",)
    (folder / "test.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"test\.jsonl:1 is not valid JSON"):
        read_accepted(folder)


def test_accepted_captions_of_a_dataset_that_cannot_be_read(folder: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("image,caption\na.png,a dog\n")
    found = read_accepted(folder)
    assert [sample.name for sample in found.splits[ALL]] == ["a.png", "b.png"]
    assert "several files contain captions" in found.notes[0]


def test_damaged_lines_are_skipped(folder: Path) -> None:
    text = b'{"path": 1}\n\xff\n[]\n{"path": "a.png", "state": "no", "captions": []}\n' + b"[" * 100_000
    text += b'\n{"path": "a.png", "state": "accepted", "captions": "x"}\n{"path": "a.png", "sta'
    assert list(parse(text)) == []
    with open(folder / FILE, "ab") as file:
        file.write(text)
    assert len(read_accepted(folder).splits[ALL]) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "does not exist, so no caption is accepted"),
        (b"", "has no accepted caption"),
        (Decision(path="../x.png", state="accepted", captions=("a",)).line(), "is outside"),
    ],
)
def test_nothing_accepted(folder: Path, content: bytes | None, why: str) -> None:
    (folder / FILE).unlink() if content is None else (folder / FILE).write_bytes(content)
    with pytest.raises(DataError, match=why):
        read_accepted(folder)
