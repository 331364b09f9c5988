"""The inspection of a dataset: counts compared with counts by hand, and every problem reported."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli import main
from captioner.data.sources import read_splits
from captioner.inspection.examine import Inspection, examine
from captioner.inspection.page import page

from .test_duplicates import scene

Lines = dict[str, list[tuple[str, list[str]]]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Lines], Path]:
    """Write a folder of split files, and draw the missing images by the digits of their names."""

    def make(splits: Lines) -> Path:
        for split, lines in splits.items():
            with (tmp_path / f"{split}.jsonl").open("w") as file:
                for name, captions in lines:
                    file.write(json.dumps({"file_name": name, "captions": captions}) + "\n")
                    path = tmp_path / name
                    if not path.exists() and not path.is_symlink():
                        path.parent.mkdir(exist_ok=True)
                        scene(int("".join(filter(str.isdigit, name)) or 0)).save(path)
        return tmp_path

    return make


@pytest.fixture
def hostile(write: Callable[[Lines], Path], tmp_path: Path) -> Path:
    """Write a dataset with one example of every problem."""
    (tmp_path / "text.png").write_text("not an image")
    scene(1).save(tmp_path / "copy-of-1.png")
    scene(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((80, 60)).save(tmp_path / "like-2.png")
    scene(5).resize((60, 45)).save(tmp_path / "small-5.png")
    evil = "<script>alert(1)</script> & 'x'"
    return write(
        {
            "train": [
                ("1.png", ["A dog runs.", "a dog runs"]),
                ("2.png", ["A cat sits on the mat."]),
                ("3.png", [evil, "hm"]),
                ("text.png", ["a text"]),
                ("copy-of-1.png", ["A dog runs .", "the dog"]),
                ("5.png", ["word " * 60]),
                ("small-5.png", ["five"]),
            ],
            "dev": [("like-2.png", ["a dog runs"]), ("9.png", ["two boats at sea"])],
        }
    )


@pytest.fixture
def found(hostile: Path) -> Inspection:
    return examine([read_splits(hostile)])


def names(groups: object) -> list[list[str]]:
    return [[entry.name for entry in group] for group in groups]  # type: ignore[attr-defined]


def test_counts(found: Inspection) -> None:
    assert dict(found.images) == {"train": 7, "dev": 2}
    assert dict(found.captions) == {"train": 10, "dev": 2}
    assert dict(found.captions_per_image) == {1: 6, 2: 3}
    assert found.caption_words[60] == 1
    assert sum(found.caption_words.values()) == 12
    assert dict(found.frequent)["word"] == 60
    assert dict(found.frequent)["dog"] == 5
    assert found.vocabulary > found.said_once > 5
    assert dict(found.sizes) == {(120, 90): 6, (80, 60): 1, (60, 45): 1}


def test_doubles_and_leaks(found: Inspection) -> None:
    assert names(found.same_bytes) == [["1.png", "copy-of-1.png"]]
    assert names(found.look_alike) == [["2.png", "like-2.png"], ["5.png", "small-5.png"]]
    assert names(found.leaks) == [["2.png", "like-2.png"]]
    assert found.shared_captions == (("a dog runs", 3),)
    assert found.shared_across_splits == 1


def test_what_is_said_of_it(found: Inspection) -> None:
    unreadable, leak, double = found.problems
    assert unreadable == "1 image cannot be read; replace or remove it: text.png (train)"
    assert "1 image has exact or near duplicates in several splits" in leak
    assert leak.endswith("keep each in one: 2.png (train) = like-2.png (dev)")
    assert double.endswith("keep one: 1.png (train) = copy-of-1.png (train)")
    notes = " | ".join(found.notes)
    assert "1 group of near duplicates: 5.png (train) = small-5.png (train)" in notes
    assert "1 caption is shared by several images (3 in total), 1 across splits" in notes
    assert "1 image has duplicate captions" in notes
    assert "4 captions have fewer than 3 words" in notes
    assert "1 caption has more than 50 words" in notes
    assert "2 images have a side shorter than 64 pixels" in notes


def test_one_file_in_two_splits_is_a_leak(write: Callable[[Lines], Path]) -> None:
    found = examine([read_splits(write({"train": [("1.png", ["a"]), ("2.png", ["b"])], "dev": [("1.png", ["c"])]}))])
    assert names(found.leaks) == [["1.png", "1.png"]]
    assert len(found.problems) == 2  # the reader reports it too


def test_a_set_without_splits_is_warned_of_its_doubles(write: Callable[[Lines], Path], tmp_path: Path) -> None:
    scene(1).resize((60, 45)).save(tmp_path / "other.png")
    found = examine([read_splits(write({"captions": [("1.png", ["a"]), ("other.png", ["b"])]}))])
    assert found.problems == ()
    assert any("without splits" in note and "1.png = other.png" in note for note in found.notes)


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_holds_it_all_and_runs_nothing(found: Inspection) -> None:
    seen = Page(page(found, "Inspection of <b>"))
    assert seen.tags.count("svg") == 4
    assert seen.tags.count("img") == 6  # three groups of two
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    for sentence in (*found.problems, *found.notes):
        assert sentence in seen.text


def test_the_verb(hostile: Path, write: Callable[[Lines], Path], capfd: pytest.CaptureFixture[str]) -> None:
    report = hostile / "deep" / "report.html"
    assert main(["inspect", str(hostile), "--report", str(report)]) == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "| train | 7 | 10 | 1.43 |" in out
    assert out.count("\nproblem: ") == 3
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["inspect", str(hostile), "--json"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert told["leaks"][0][1] == {"split": "dev", "name": "like-2.png", "path": str(hostile / "like-2.png")}
    write({"train": [("11.png", ["a dog"]), ("12.png", ["a cat"])], "dev": [("13.png", ["a cow"])]})
    assert main(["inspect", str(hostile)]) == 0
    assert "no problems were found" in capfd.readouterr().out
    assert main(["inspect", str(hostile / "nothing")]) == 1
    assert "does not exist" in capfd.readouterr().err


def test_images_outside_the_data_are_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (40, 30)).save(images / "1.png")
    (tmp_path / "texts" / "train.jsonl").write_text('{"file_name": "../images/1.png", "text": "a dog"}\n')
    assert main(["inspect", str(tmp_path / "texts")]) == 1
    assert "names ../images/1.png, which is outside" in capfd.readouterr().err
    main(["inspect", str(tmp_path / "texts"), "--outside"])
    assert "| train | 1 | 1 |" in capfd.readouterr().out


def test_two_sets_are_seen_as_one(write: Callable[[Lines], Path], tmp_path: Path) -> None:
    first = write({"train": [("1.png", ["a"])]})
    (tmp_path / "second").mkdir()
    scene(1).save(tmp_path / "second" / "x.png")
    (tmp_path / "second" / "dev.jsonl").write_text(json.dumps({"file_name": "x.png", "captions": ["b"]}))
    found = examine([read_splits(first), read_splits(tmp_path / "second")])
    assert names(found.leaks) == [["1.png", "x.png"]]


def test_captions_without_blanks_are_counted_by_character(write: Callable[[Lines], Path]) -> None:
    found = examine([read_splits(write({"train": [("1.png", ["一只狗在跑"]), ("2.png", ["一只猫"])]}))])
    assert dict(found.caption_words) == {5: 1, 3: 1}
    assert found.vocabulary == 6
    assert not [note for note in found.notes if "words" in note]


def test_images_in_tars_are_inspected_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, numbers in {"train": (1, 2, 3, 1), "dev": (4, 2)}.items():
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as tar:
            for place, number in enumerate(numbers):
                stream = io.BytesIO()
                scene(number).save(stream, "PNG")
                data = stream.getvalue()
                for suffix, content in (("png", data if number != 3 else data[:90]), ("txt", b"a caption")):
                    member = tarfile.TarInfo(f"{place}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    found = examine([read_splits(tmp_path)])
    assert dict(found.images) == {"train": 4, "dev": 2}
    assert sum(found.sizes.values()) == 5
    assert [[str(entry) for entry in group] for group in found.same_bytes] == [
        ["1.png (dev)", "1.png (train)"],
        ["0.png (train)", "3.png (train)"],
    ]
    assert [len(group) for group in found.leaks] == [2]
    ((broken, reason),) = found.unreadable
    assert str(broken) == "2.png (train)"
    assert reason == f"cannot read {tmp_path}/train-0.tar/2.png: the file is truncated"
    assert page(found, "Tars").count("<img") == 4
    assert main(["inspect", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["same_bytes"][1][1]["name"] == "3.png"


def test_all_files_of_a_problem_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        scene(number).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"a scene of number {number}\nand a line\n")
    for number in range(5):
        (tmp_path / f"bad-{number}.png").write_text("no picture")
        (tmp_path / f"bad-{number}.txt").write_text(f"a thing of number {number}\n")
        scene(20 + number).save(tmp_path / f"bare-{number}.png")
    page = tmp_path / "out" / "page.html"
    assert main(["inspect", str(tmp_path), "--json", "--report", str(page)]) == 1
    found = json.loads(capsys.readouterr().out)
    html = page.read_text()
    for kind in ("bad", "bare"):
        (sentence,) = [one for one in found["problems"] if f"{kind}-0.png" in one]
        assert f"{kind}-4.png" not in sentence
        assert found["named"][sentence] == [f"{kind}-{number}.png" for number in range(5)]
        assert f"<li>{kind}-4.png</li>" in html
    assert any("12 of 17 caption files have several lines: each line is a caption" in note for note in found["notes"])
    assert main(["inspect", str(tmp_path), "--sidecars", "one"]) == 1
    out = capsys.readouterr().out
    assert "each file is one caption" in out
    assert "| all | 17 | 17 |" in out
