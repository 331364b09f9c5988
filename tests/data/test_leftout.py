"""Files that a folder walk skips: thumbnails, deleted files, hidden files and unsupported kinds."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from captioner.data.find import find_items
from captioner.data.leftout import LeftOut

JUNK = [
    "@eaDir/1.jpg/thumb.jpg",
    "#recycle/2.jpg",
    "$RECYCLE.BIN/$R1.jpg",
    ".thumbnails/3.jpg",
    "._1.jpg",
    ".git/4.png",
]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ["1.jpg", "sub/2.jpg", "sub/@eaDir/2.jpg/thumb.jpg", *JUNK]:
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Path("photos", name).touch()
    return tmp_path / "photos"


def ids(*names: str, left: LeftOut) -> list[str]:
    return sorted(item.id for item in find_items(names, left=left))


@pytest.mark.parametrize("named", ["photos", "photos/**/*.jpg", "photos/**"])
def test_they_are_left_out_and_counted(photos: Path, named: str) -> None:
    left = LeftOut()
    assert ids(named, left=left) == ["photos/1.jpg", "photos/sub/2.jpg"]
    (told,) = left.sentences()
    assert told == (
        "left out: 5 folders of thumbnails or deleted files (#recycle, $RECYCLE.BIN, .thumbnails, ...), "
        "1 hidden folder, 1 hidden image; --all includes them"
    )


def test_all_takes_them(photos: Path) -> None:
    left = LeftOut(everything=True)
    assert len(ids("photos", left=left)) == len(JUNK) + 3
    assert len(ids("photos/**/*.*g", left=LeftOut(everything=True))) == len(JUNK) + 3
    assert left.sentences() == []


def test_what_is_named_itself_is_taken(photos: Path) -> None:
    assert ids("photos/@eaDir", left=LeftOut()) == ["photos/@eaDir/1.jpg/thumb.jpg"]
    assert ids("photos/#rec*/*.jpg", left=LeftOut()) == ["photos/#recycle/2.jpg"]
    assert ids("photos/._1.jpg", left=LeftOut()) == ["photos/._1.jpg"]


def test_a_pattern_does_not_mean_them(photos: Path) -> None:
    left = LeftOut()
    assert ids("photos/*/*.jpg", left=left) == ["photos/sub/2.jpg"]
    assert "folders of thumbnails" in left.sentences()[0]


def test_they_are_left_out_of_archives_too(photos: Path) -> None:
    with zipfile.ZipFile("x.zip", "w") as file:
        for name in ("1.jpg", "__MACOSX/._1.jpg", "a/@eaDir/1.jpg", "a/2.nef", "#recycle/3.jpg"):
            file.writestr(name, b"x")
    left = LeftOut()
    assert ids("x.zip", left=left) == ["x.zip!/1.jpg"]
    assert left.sentences() == [
        "left out: 3 folders of thumbnails or deleted files (#recycle, @eaDir, __MACOSX); --all includes them",
        "not supported: 1 .nef; convert them to JPEG, PNG or TIFF first",
    ]
    assert len(ids("x.zip", left=LeftOut(everything=True))) == 4


def test_kinds_that_are_not_read_are_counted(photos: Path) -> None:
    for name in ("a.DNG", "b.nef", "sub/c.NEF", "d.psd", "e.jxl", "f.mp4", "g.tar.gz", "notes.txt"):
        (photos / name).touch()
    left = LeftOut()
    ids("photos", left=left)
    assert left.sentences()[1:] == [
        "not supported: 2 .nef, 1 .dng, 1 .psd, 1 .jxl; convert them to JPEG, PNG or TIFF first",
        "not opened: 1 .mp4, 1 .tar.gz; name them, such as folder/*.mp4",
    ]


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.data.leftout.MOST", 10)
    left = LeftOut()
    for number in range(50):
        assert not left.takes(os.path.join(f".{number}"), folder=True)
    assert len(left.hidden_folders) == 10
