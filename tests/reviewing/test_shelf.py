"""Reading a folder, saving changes into each kind of file, versions, and folders that are someone else's."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.data.decisions import FILE
from captioner.errors import OutputError, UsageError
from captioner.folder.lock import Lock
from captioner.reviewing import shelf as shelves
from captioner.reviewing.seen import Change, Conflict, Seen
from captioner.reviewing.shelf import Shelf

from .conftest import at, files

Do = Callable[..., list[Seen]]


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_captions_are_read_from_every_file(photos: Path) -> None:
    (photos / "1.txt").write_text("a dog\na brown dog\n")
    (photos / "captions.jsonl").write_text(
        '{"path": "1.png", "caption": "a dog", "score": -0.5, "confidence": 0.7}\n'
        '{"path": "2.png", "caption": "a cat", "score": -0.9, "confidence": 0.5, "alternatives": [{"caption": "b"}]}\n'
    )
    (photos / "review.jsonl").write_text('{"path": "more/3.png", "caption": "x", "score": -3, "confidence": 0.1}\n')
    shelf = Shelf(str(photos))
    assert shelf.sources.outputs == ("txt", "jsonl")
    found = {seen.photo.key: seen for seen in shelf.all()}
    assert found["1.png"].texts == ("a dog", "a brown dog")
    assert (found["1.png"].confidence, found["1.png"].doubtful) == (0.7, False)
    assert (found["2.png"].texts, found["2.png"].doubtful) == (("a cat", "b"), True)
    assert (found["more/3.png"].texts, found["more/3.png"].doubtful, found["more/3.png"].kept) == (("x",), True, False)
    assert found["more/10.png"].texts == ()
    assert {seen.state for seen in found.values()} == {""}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("metadata.jsonl", '{"file_name": "1.png", "captions": ["a dog", "a pet"]}\n', ("a dog", "a pet")),
        ("metadata.jsonl", '{"file_name": "1.png", "caption": "a dog"}\n', ("a dog",)),
        ("captions.jsonl", '{"path": "1.png", "error": "it is empty"}\n', ()),
        ("captions.jsonl", '{"path": "1.png", "caption": "a dog", "alternatives": [{}]}\n', ("a dog",)),
        ("captions.coco.json", '[{"file_name": "1.png", "image_id": 1}]', ()),
    ],
)
def test_rows_with_other_fields(photos: Path, name: str, text: str, expected: tuple[str, ...]) -> None:
    (photos / name).write_text(text)
    shelf = Shelf(str(photos))
    assert at(shelf, "1.png").texts == expected
    assert shelf.sources.outputs == (("jsonl",) if "alternatives" in text else () if expected else ("txt",))


def test_an_edit_is_in_every_file(photos: Path, change: Do) -> None:
    (photos / "1.caption").write_text("old\n")
    (photos / "1.txt").write_text("tag, tag\n")
    (photos / "captions.jsonl").write_text(
        '{"path": "gone.png", "caption": "kept"}\n{"path": "1.png", "caption": "old"}\n'
    )
    (photos / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "old"}\n')
    (photos / "captions.csv").write_text('path,caption,score,confidence,labels\n1.png,old,-1,0.5,\n2.png,"=1",,,\n')
    (photos / "captions.coco.json").write_text('[{"file_name": "1.png", "caption": "old"}]')
    shelf = Shelf(str(photos))
    assert shelf.sources.outputs == ("caption", "jsonl", "csv", "metadata", "coco")
    [seen] = change(shelf, "1.png", '=a dog, a "cat"\n<b>two</b>')
    assert (seen.texts, seen.state) == (('=a dog, a "cat"', "<b>two</b>"), "edited")
    assert (photos / "1.caption").read_text() == '=a dog, a "cat"\n<b>two</b>\n'
    assert (photos / "1.txt").read_text() == "tag, tag\n", "tags beside .caption files stay"
    rows = records(photos / "captions.jsonl")
    assert [row["path"] for row in rows] == ["gone.png", "1.png"]
    assert rows[1]["caption"] == '=a dog, a "cat"'
    assert rows[1]["confidence"] == 1.0, "a person's own words"
    assert records(photos / "metadata.jsonl") == [{"file_name": "1.png", "text": ['=a dog, a "cat"', "<b>two</b>"]}]
    with open(photos / "captions.csv", newline="") as file:
        assert [row[:2] for row in csv.reader(file)][1:] == [
            ["2.png", "=1"], ["1.png", "'=a dog, a \"cat\""], ["1.png", "<b>two</b>"]
        ]  # fmt: skip
    assert len(json.loads((photos / "captions.coco.json").read_text())) == 2
    again = at(Shelf(str(photos)), "1.png")
    assert (again.texts, again.state, again.version) == (seen.texts, "edited", seen.version)
    assert not [name for name in files(photos) if name.startswith(".")], "neither journal nor lock stays"


def test_accept_and_reject_change_no_caption(photos: Path, change: Do) -> None:
    for name in ("1", "2"):
        (photos / f"{name}.txt").write_text("a dog")
    shelf = Shelf(str(photos))
    change(shelf, "1.png", state="accepted")
    change(shelf, "2.png", state="rejected")
    assert [(photos / f"{name}.txt").read_text() for name in "12"] == ["a dog"] * 2
    assert [seen.state for seen in Shelf(str(photos)).all()] == ["accepted", "rejected", "", ""]
    change(shelf, "2.png", state="")
    assert at(Shelf(str(photos)), "2.png").state == ""


def test_a_doubtful_caption_that_is_accepted_gets_its_file(photos: Path, change: Do) -> None:
    (photos / "1.txt").write_text("a dog")
    (photos / "review.jsonl").write_text('{"path": "2.png", "caption": "a cat", "score": -2, "confidence": 0.2}\n')
    change(Shelf(str(photos)), "2.png", state="accepted")
    assert (photos / "2.txt").read_text() == "a cat\n"
    assert at(Shelf(str(photos)), "2.png").confidence == 0.2


def test_without_captions_the_first_one_makes_a_file(photos: Path, change: Do) -> None:
    shelf = Shelf(str(photos))
    change(shelf, "more/3.png", "a bird")
    assert files(photos) == ["more/3.txt", FILE]
    with pytest.raises(UsageError, match="an empty caption cannot be accepted"):
        change(shelf, "1.png", state="accepted")


def test_an_empty_caption_takes_the_first_one_back(photos: Path, change: Do) -> None:
    shelf = Shelf(str(photos), outputs=("txt", "jsonl"))
    change(shelf, "1.png", "a bird")
    [seen] = change(shelf, "1.png", "", state="")
    assert (seen.texts, seen.state) == ((), "")
    assert (photos / "1.txt").read_text().strip() == ""
    assert at(Shelf(str(photos)), "1.png").texts == ()


def test_a_caption_that_changed_since_the_review_is_unreviewed(photos: Path, change: Do) -> None:
    (photos / "1.txt").write_text("a dog")
    shelf = Shelf(str(photos))
    change(shelf, "1.png", state="accepted")
    (photos / "1.txt").write_text("a cat")
    assert at(shelf, "1.png").state == ""
    (photos / "1.txt").write_text("a dog")
    assert at(shelf, "1.png").state == "accepted"


@pytest.mark.parametrize("other", ["server", "editor"])
def test_two_writers_do_not_overwrite_each_other(photos: Path, change: Do, other: str) -> None:
    for name in ("1", "2"):
        (photos / f"{name}.txt").write_text("old")
    shelf = Shelf(str(photos))
    mine = [
        Change(id=at(shelf, f"{n}.png").id, version=at(shelf, f"{n}.png").version, captions=("mine",), state="edited")
        for n in (1, 2)
    ]
    if other == "server":
        change(Shelf(str(photos)), "1.png", "theirs")
    else:
        (photos / "1.txt").write_text("theirs")
    with pytest.raises(Conflict) as caught:
        shelf.save(mine)
    assert [(seen.photo.key, seen.texts) for seen in caught.value.seen] == [("1.png", ("theirs",))]
    assert [(photos / f"{n}.txt").read_text().strip() for n in (1, 2)] == ["theirs", "old"], "all or nothing"
    assert not [name for name in files(photos) if name.startswith(".")]


def test_another_run_in_the_folder(photos: Path, change: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "PATIENCE", 0.05)
    shelf = Shelf(str(photos))
    lock = Lock(str(photos / ".captioner.lock"))
    with pytest.raises(OutputError, match="another run is writing to"):
        change(shelf, "1.png", "a dog")
    lock.release()
    assert at(shelf, "1.png").texts == ()
    change(shelf, "1.png", "a dog")


def test_captions_of_another_format_stay_as_they_are(photos: Path, change: Do) -> None:
    (photos / "annotations.tsv").write_text("image\tcaption\n" + "".join(f"{n}\ta dog\n" for n in ("1.png", "2.png")))
    before = (photos / "annotations.tsv").read_bytes()
    shelf = Shelf(str(photos))
    assert shelf.sources.outputs == ()
    assert at(shelf, "1.png").texts == ("a dog",)
    change(shelf, "1.png", "a brown dog")
    assert files(photos) == ["annotations.tsv", FILE]
    assert (photos / "annotations.tsv").read_bytes() == before
    again = at(Shelf(str(photos)), "1.png")
    assert (again.texts, again.state) == (("a brown dog",), "edited")
    change(shelf, "1.png", "a dog", state="")
    assert at(Shelf(str(photos)), "1.png").texts == ("a dog",)


def test_parquet(photos: Path, change: Do) -> None:
    table = pytest.importorskip("pyarrow").table({"path": ["1.png", "2.png"], "caption": ["a dog", "a cat"]})
    pytest.importorskip("pyarrow.parquet").write_table(table, photos / "part-0.parquet")
    assert [seen.texts for seen in Shelf(str(photos)).all()][:2] == [("a dog",), ("a cat",)]
    change(Shelf(str(photos)), "1.png", state="accepted")
    assert at(Shelf(str(photos)), "1.png").state == "accepted"


def test_control_codes_leave_captions(photos: Path) -> None:
    from captioner.reviewing.seen import lines_of

    assert lines_of(["a\x00b\x1b[31m", " \r\n", "c\ud800"]) == ("a b [31m", "c�")


@pytest.mark.parametrize("kind", ["log", "sidecar", "table"])
def test_links_are_not_written_through(photos: Path, tmp_path: Path, change: Do, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text("mine\n")
    (photos / {"log": FILE, "sidecar": "1.txt", "table": "captions.jsonl"}[kind]).symlink_to(target)
    with pytest.raises(OutputError):
        change(Shelf(str(photos), outputs=("txt", "jsonl")), "1.png", "a dog")
    assert target.read_text() == "mine\n"


def test_foreign_tables_are_reported_and_kept(photos: Path, change: Do) -> None:
    (photos / "captions.csv").write_text("id;words\n1;2\n")
    shelf = Shelf(str(photos))
    assert "has other columns" in shelf.notices[0]
    change(shelf, "1.png", "a dog")
    assert (photos / "captions.csv").read_text() == "id;words\n1;2\n"


def test_odd_names(photos: Path, change: Do) -> None:
    odd = [b"\xff.png", b"<img src=x onerror=alert(1)>.png", b"new\nline.png"]
    for name in odd:
        with open(os.path.join(os.fsencode(photos), name), "wb") as file:
            file.write((photos / "1.png").read_bytes())
    shelf = Shelf(str(photos))
    for name in odd:
        change(shelf, os.fsdecode(name), "a dog")
    again = Shelf(str(photos))
    assert [at(again, os.fsdecode(name)).state for name in odd] == ["edited"] * 3


def test_shelf_of_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, why in ((tmp_path / "gone", "is not a folder"), (tmp_path / "empty", "contains no images")):
        with pytest.raises(UsageError, match=why):
            Shelf(str(path))
    with pytest.raises(UsageError, match="unknown output"):
        Shelf(str(tmp_path), outputs=("nope",))  # type: ignore[arg-type]


def test_out_folder(photos: Path, tmp_path: Path, change: Do) -> None:
    shelf = Shelf(str(photos), out=str(tmp_path / "out"), outputs=("txt", "jsonl"))
    change(shelf, "more/3.png", "a dog")
    assert files(photos) == []
    assert files(tmp_path / "out") == ["captions.jsonl", "more/3.txt", FILE]
    assert at(Shelf(str(photos), out=str(tmp_path / "out")), "more/3.png").state == "edited"
