"""Whole runs: files that are written, kept, appended to, refused and resumed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.captioning.captions import Caption
from captioner.data.find import find_items
from captioner.data.sources import read_splits
from captioner.errors import OutputError
from captioner.evaluation.predictions import read_predictions
from captioner.folder import atomic
from captioner.folder.job import photos_of
from captioner.folder.outputs import journal_of
from captioner.folder.plan import Plan, Shard, place_of
from captioner.folder.run import Run, dry_run
from captioner.folder.writers import sidecars

from .conftest import NAMES, Go, say

ALL = ("txt", "caption", "jsonl", "csv", "metadata", "coco")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(folder: Path) -> list[str]:
    """Return all files except the photos, including hidden ones."""
    return sorted(os.fspath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".png")


def test_all_outputs_at_once(go: Go, photos: Path) -> None:
    found = go(*ALL)
    assert [outcome.state for outcome in found] == ["captioned"] * 4
    tables = ["captions.coco.json", "captions.csv", "captions.jsonl", "metadata.jsonl"]
    beside = [os.path.splitext(name)[0] + suffix for name in NAMES for suffix in (".caption", ".txt")]
    assert files(photos) == sorted(tables + beside), "nothing else stays, no journal, no lock"
    assert (photos / "more/3.txt").read_bytes() == b"photo 3.png\n"
    assert records(photos / "captions.jsonl")[3] == {
        "path": "more/10.png",
        "caption": "photo 10.png",
        "score": -0.5,
        "confidence": 0.8,
    }
    assert records(photos / "metadata.jsonl")[2] == {"file_name": "more/3.png", "text": "photo 3.png"}
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["caption"]) for row in rows] == [(n, f"photo {Path(n).name}") for n in NAMES]
    coco = json.loads((photos / "captions.coco.json").read_text())
    assert coco[0] == {"image_id": "1.png", "caption": "photo 1.png", "file_name": "1.png"}
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    assert go(*ALL) == []
    assert go.said == []  # type: ignore[attr-defined]
    assert go.counts.skipped == 4  # type: ignore[attr-defined]
    assert {name: (photos / name).read_bytes() for name in files(photos)} == before


def test_coco_numbers_are_read_from_coco_names(go: Go, photos: Path) -> None:
    shutil.copy(photos / "1.png", photos / "COCO_val2014_000000391895.png")
    go("coco")
    ids = [record["image_id"] for record in json.loads((photos / "captions.coco.json").read_text())]
    assert ids == ["1.png", "2.png", 391895, "more/3.png", "more/10.png"]


def test_only_what_is_missing_is_written(go: Go, photos: Path) -> None:
    """A blank file counts as a missing caption; a photo with one of two outputs gets the other one."""
    (photos / "1.txt").write_text("mine")
    (photos / "2.txt").write_text(" \r\n\t")
    (photos / "more/3.txt").write_bytes(b"")
    go("txt")
    assert go.said == ["2.png", "3.png", "10.png"]  # type: ignore[attr-defined]
    assert (photos / "1.txt").read_text() == "mine"
    assert (photos / "2.txt").read_text() == "photo 2.png\n"
    (photos / "2.txt").write_text("changed by hand")
    go("txt", "jsonl")
    assert (photos / "2.txt").read_text() == "changed by hand"
    assert len(records(photos / "captions.jsonl")) == 4


@pytest.mark.parametrize(
    ("existing", "text"),
    [("overwrite", "photo 1.png"), ("append", "old, photo 1.png"), ("prepend", "photo 1.png, old")],
)
def test_captions_that_exist(go: Go, photos: Path, existing: str, text: str) -> None:
    (photos / "1.txt").write_text("old\n")
    (photos / "captions.jsonl").write_text(
        '{"path": "gone.png", "caption": "kept"}\n{"path": "1.png", "caption": "old"}\n'
    )
    (photos / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "old"}')  # its line lacks an end
    (photos / "captions.csv").write_text('path,caption,score,confidence\n"1.png",old,,\ngone.png,"kept\nso",,\n')
    (photos / "captions.coco.json").write_text(
        '[{"image_id": 7, "caption": "kept"}, {"file_name": "1.png", "caption": "old"}]'
    )
    go("txt", "jsonl", "csv", "metadata", "coco", existing=existing)
    assert (photos / "1.txt").read_text() == text + "\n"
    lines = records(photos / "captions.jsonl")
    assert [line["path"] for line in lines] == ["gone.png", *NAMES]
    assert [line["caption"] for line in lines[:2]] == ["kept", text]
    assert records(photos / "metadata.jsonl")[0] == {"file_name": "1.png", "text": text}
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == ["gone.png", *NAMES]
    assert [row[1] for row in rows[:2]] == ["kept\nso", text]
    coco = json.loads((photos / "captions.coco.json").read_text())
    assert coco[0] == {"image_id": 7, "caption": "kept"}
    assert [record["caption"] for record in coco if record.get("file_name") == "1.png"] == [text]
    assert len(coco) == 5


def test_encodings_of_captions_that_exist(go: Go, photos: Path) -> None:
    (photos / "1.txt").write_bytes("été".encode("utf-16"))
    (photos / "2.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\n")
    (photos / "more/3.txt").write_bytes(b"\xe9t\xe9")
    found = {outcome.photo.key: outcome for outcome in go("txt", existing="append")}
    assert (photos / "1.txt").read_text(encoding="utf-8") == "été, photo 1.png\n"
    assert (photos / "2.txt").read_text(encoding="utf-8") == "with a mark, photo 2.png\n"
    assert found["more/3.png"].problems[0].endswith("it is not UTF-8 text; save it as UTF-8")
    assert (photos / "more/3.txt").read_bytes() == b"\xe9t\xe9"
    assert go("txt") == [], "whatever its encoding, it is a caption"


def test_photos_that_share_a_name_keep_their_captions_apart(go: Go, photos: Path) -> None:
    (photos / "1.jpg").write_bytes((photos / "1.png").read_bytes())
    go("txt")
    assert [name for name in files(photos) if name.endswith(".txt")] == [
        "1.jpg.txt",
        "1.png.txt",
        "2.txt",
        "more/10.txt",
        "more/3.txt",
    ]
    assert go("txt") == []


def test_out_keeps_the_photos_folder_as_it_is(go: Go, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "results"
    go("txt", "jsonl", out=out)
    assert files(photos) == []
    assert files(out) == ["1.txt", "2.txt", "captions.jsonl", "more/10.txt", "more/3.txt"]
    assert records(out / "captions.jsonl")[0]["path"] == os.fspath(photos / "1.png")
    assert go("txt", "jsonl", out=out) == []


def test_doubtful_captions_go_to_the_review_list_alone(go: Go, photos: Path) -> None:
    shutil.copy(photos / "1.png", photos / "doubt.png")
    found = go("txt", "jsonl", min_confidence=0.5)
    assert [outcome.state for outcome in found].count("doubtful") == 1
    assert [line["path"] for line in records(photos / "review.jsonl")] == ["doubt.png"]
    assert "doubt.png" not in (photos / "captions.jsonl").read_text()
    assert not (photos / "doubt.txt").exists()
    go("txt", "jsonl", min_confidence=0.5)
    assert len(records(photos / "review.jsonl")) == 1, "asked again, listed once"


def test_unsure_captions_are_marked_in_tables_and_plain_elsewhere(go: Go, photos: Path) -> None:
    (photos / "1.png").rename(photos / "unsure.png")
    (photos / "captions.csv").write_text("path,caption,score,confidence,labels\n2.png,mine,,,\n")  # an older table
    go("txt", "jsonl", "csv", "coco", "metadata")
    marks = {line["path"]: line.get("unsure") for line in records(photos / "captions.jsonl")}
    assert marks == {"unsure.png": True, "2.png": None, "more/3.png": None, "more/10.png": None}
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"]: row["unsure"] for row in rows} == {
        name: "true" if value else "" for name, value in marks.items()
    }
    assert rows[0] == {"path": "2.png", "caption": "mine", "score": "", "confidence": "", "labels": "", "unsure": ""}
    assert (photos / "unsure.txt").read_text() == "photo unsure.png\n"
    assert "not sure" not in (photos / "metadata.jsonl").read_text() + (photos / "captions.coco.json").read_text()


def test_templates_are_written_and_not_journaled(go: Go, photos: Path) -> None:
    go("txt", "jsonl", template="zwx, {caption} in {folder}")
    assert (photos / "more/3.txt").read_text() == "zwx, photo 3.png in more\n"
    assert records(photos / "captions.jsonl")[0]["caption"] == "zwx, photo 1.png in photos"


def test_parts_write_files_of_their_own(go: Go, photos: Path) -> None:
    for number in (1, 2, 3):
        go("jsonl", "coco", shard=Shard(number=number, of=3))
    parts = sorted(photos.glob("captions.0000?-of-00003.jsonl"))
    assert sorted(line["path"] for part in parts for line in records(part)) == sorted(NAMES)


def test_a_photo_that_fails_is_told_and_tried_again(go: Go, photos: Path) -> None:
    (photos / "bad.png").touch()
    found = go("txt", "jsonl")
    assert [outcome.problems for outcome in found if outcome.state == "failed"] == [
        (f"cannot read {photos}/bad.png: it is empty",)
    ]
    assert len(records(photos / "captions.jsonl")) == 4
    assert [outcome.photo.key for outcome in go("txt", "jsonl")] == ["bad.png"]


def test_names_that_are_not_utf8(go: Go, photos: Path) -> None:
    odd = os.path.join(os.fsencode(photos), b"odd-\xff\n.png")
    try:
        shutil.copy(photos / "1.png", os.fsdecode(odd))
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    assert [outcome.state for outcome in go("txt", "jsonl", "metadata", "coco")] == ["captioned"] * 5
    with open(odd[:-3] + b"txt", encoding="utf-8") as file:
        assert file.read().startswith("photo odd-")
    names = {os.fsencode(line["path"]) for line in records(photos / "captions.jsonl")}
    assert b"odd-\xff\n.png" in names
    assert go("txt", "jsonl", "metadata", "coco") == []
    problems = [outcome.problems[0] for outcome in go("csv") if outcome.state == "failed"]
    assert problems == [
        "cannot name odd-\\udcff\\n.png in a CSV file: its name is not UTF-8; write jsonl, or rename it"
    ]


def stopped_after(photos: Path, outcomes: int, *outputs: Any, **options: Any) -> None:
    """Return a run that ends silently after so many outcomes: the journal is that of ``kill -9``."""
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=outputs, **options)
    run = Run(plan, {})
    going = run.caption(run.todo(photos_of(find_items([photos]), plan.place)), say, together=1)
    for _ in range(outcomes):
        next(going)
    run.close()


def test_later_walks_of_a_run_count_nothing_again(photos: Path) -> None:
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("txt",))
    (photos / "1.txt").write_text("a caption")
    run = Run(plan, {})
    for _ in range(3):
        run.begin_walk()
        list(run.caption(run.todo(photos_of(find_items([photos]), plan.place)), say))
    run.close()
    assert (run.counts.captioned, run.counts.skipped, run.counts.before) == (3, 1, 0)


def test_a_stopped_run_goes_on(go: Go, photos: Path) -> None:
    stopped_after(photos, 2, *ALL)
    assert ".captioner.journal" in files(photos)
    assert len(records(photos / "captions.jsonl")) == 2
    assert not (photos / "captions.coco.json").exists()
    go(*ALL)
    assert go.said == ["3.png", "10.png"]  # type: ignore[attr-defined]
    assert go.counts.before == 2  # type: ignore[attr-defined]
    for name in ("captions.jsonl", "metadata.jsonl"):
        assert len(records(photos / name)) == 4
    assert len(json.loads((photos / "captions.coco.json").read_text())) == 4
    assert not [name for name in files(photos) if "captioner" in name]


def test_a_row_that_is_half_written_is_written_again(go: Go, photos: Path) -> None:
    stopped_after(photos, 2, "jsonl", "csv")
    for name in ("captions.jsonl", "captions.csv"):
        with open(photos / name, "ab") as file:
            file.write((photos / name).read_bytes()[-20:-3])
    go("jsonl", "csv")
    assert [line["path"] for line in records(photos / "captions.jsonl")] == list(NAMES)
    assert len((photos / "captions.csv").read_text().splitlines()) == 5


def test_rows_that_are_gone_come_back_from_the_journal(go: Go, photos: Path) -> None:
    stopped_after(photos, 3, "jsonl")
    (photos / "captions.jsonl").unlink()
    go("jsonl")
    assert sorted(line["path"] for line in records(photos / "captions.jsonl")) == sorted(NAMES)


def test_a_run_stopped_between_its_last_table_and_its_end_changes_nothing_twice(go: Go, photos: Path) -> None:
    (photos / "captions.jsonl").write_text('{"path": "1.png", "caption": "old"}\n')
    stopped_after(photos, 4, "jsonl", "txt", existing="append")
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("jsonl", "txt"), existing="append")
    run = Run(plan, {})
    assert run._outputs.finish() == []
    run.close()  # it has put the table together, and dies before it forgets
    go("jsonl", "txt", existing="append")
    assert next(line["caption"] for line in records(photos / "captions.jsonl")) == "old, photo 1.png"
    assert len(records(photos / "captions.jsonl")) == 4


def test_another_command_first_brings_the_stopped_run_to_its_end(go: Go, photos: Path) -> None:
    stopped_after(photos, 2, "txt", "coco", template="first {caption}")
    go("txt", existing="append")
    assert (photos / "1.txt").read_text() == "first photo 1.png, photo 1.png\n"
    assert (photos / "more/3.txt").read_text() == "photo 3.png\n"
    assert len(json.loads((photos / "captions.coco.json").read_text())) == 2


def test_other_settings_of_the_model_are_another_run(go: Go, photos: Path) -> None:
    stopped_after(photos, 2, "txt")
    go("txt", existing="overwrite", settings={"model": "other"})
    assert go.said == ["1.png", "2.png", "3.png", "10.png"]  # type: ignore[attr-defined]


def test_two_runs_at_once_are_refused(go: Go, photos: Path) -> None:
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("txt",))
    first = Run(plan, {})
    with pytest.raises(OutputError, match=r"another run is writing to .*photos; wait for it to end"):
        go("txt")
    first.close()
    assert len(go("txt")) == 4


def test_a_full_disk_loses_nothing(go: Go, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal holds the caption: the next run writes it without the model."""
    whole = atomic.replace_file

    def full(path: str, *rest: Any) -> None:
        if path.endswith("2.txt"):
            raise OSError(28, "No space left on device")
        whole(path, *rest)

    monkeypatch.setattr(sidecars, "replace_file", full)
    found = go("txt", "jsonl")
    sentence = f"cannot write {photos}/2.txt: the disk is full; free some space and repeat the command"
    assert [outcome.problems for outcome in found if outcome.state == "failed"] == [(sentence,)]
    assert go.problems == [sentence]  # type: ignore[attr-defined]
    assert len(records(photos / "captions.jsonl")) == 4
    monkeypatch.undo()
    assert go("txt", "jsonl") == []
    assert go.said == []  # type: ignore[attr-defined]
    assert (photos / "2.txt").read_text() == "photo 2.png\n"
    assert len(records(photos / "captions.jsonl")) == 4
    assert not [name for name in files(photos) if "captioner" in name]


def test_what_is_in_the_way_is_told(go: Go, photos: Path) -> None:
    (photos / "1.txt").mkdir()
    (photos / "captions.csv").write_text("file,text\n")
    (problem,) = go("txt")[0].problems
    assert problem == f"cannot read {photos}/1.txt: is a directory; fix the cause, or write elsewhere with --out DIR"
    with pytest.raises(OutputError, match=r"has other columns than path, .*, confidence, labels, unsure; move it away"):
        go("csv")
    assert (photos / "captions.csv").read_text() == "file,text\n"
    Path(journal_of(Plan(place=place_of([os.fspath(photos)], None)))).write_bytes(b"no journal" * 100)
    with pytest.raises(OutputError, match=r"cannot use the journal .* remove it to start a new run"):
        go("jsonl")


@pytest.fixture
def mine(photos: Path) -> Iterator[Path]:
    """Return the photos in a folder of a user without root's permissions, who runs the test."""
    if os.name == "nt" or os.getuid() != 0:
        yield photos
        return
    top = Path(tempfile.mkdtemp())
    shutil.copytree(photos, top / "photos")
    for path in (top, *top.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    yield top / "photos"
    os.seteuid(0)
    shutil.rmtree(top)


@pytest.mark.skipif(os.name == "nt", reason="folders have no such modes")
def test_a_read_only_folder_is_one_sentence(go: Go, mine: Path) -> None:
    (mine / "more").chmod(0o500)
    try:
        found = go("txt", "jsonl", paths=[mine])
        assert [outcome.state for outcome in found] == ["captioned", "captioned", "failed", "failed"]
        assert found[2].problems == (
            f"cannot write {mine}/more/3.txt: permission denied; write elsewhere with --out DIR, or change the "
            "folder's permissions",
        )
        assert len(records(mine / "captions.jsonl")) == 4, "what can be written is"
        (mine / "more").chmod(0o700)
        assert go("txt", "jsonl", paths=[mine]) == []
        assert go.said == [], "their captions were kept for when they can be written"  # type: ignore[attr-defined]
        assert (mine / "more" / "3.txt").read_text() == "photo 3.png\n"
        mine.chmod(0o500)
        with pytest.raises(OutputError, match="permission denied; write elsewhere with --out DIR"):
            go("csv", paths=[mine])
        assert len(go("csv", paths=[mine], out=mine.parent / "out")) == 4
    finally:
        mine.chmod(0o700)
        (mine / "more").chmod(0o700)


def test_a_look_ahead_changes_nothing(photos: Path) -> None:
    (photos / "1.txt").write_text("mine")
    (photos / "captions.jsonl").write_text('{"path": "1.png", "caption": "x"}')
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("txt", "jsonl"))
    before = files(photos)
    found = [(photo.key, result) for photo, result in dry_run(plan, photos_of(find_items([photos]), plan.place))]
    assert [key for key, _ in found] == list(NAMES)
    assert [(list(r.slots), r.why) for _, r in found if not isinstance(r, OutputError)] == [
        ([], "has its caption in txt, jsonl"),
        *[(["txt", "jsonl"], "")] * 3,
    ]
    assert files(photos) == before
    assert (photos / "captions.jsonl").read_text() == '{"path": "1.png", "caption": "x"}'


def test_the_journal_is_small_in_memory_and_kept_while_it_is_needed(photos: Path) -> None:
    stopped_after(photos, 2, "txt")
    with sqlite3.connect(photos / ".captioner.journal") as base:
        assert base.execute("SELECT count(*) FROM done WHERE waiting = ''").fetchone() == (2,)


def test_photos_inside_an_archive(go: Go, photos: Path, tmp_path: Path) -> None:
    """A member has no folder for a file beside it; a table or a folder of results takes its caption."""
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in NAMES:
            file.write(photos / name, name)
    problem = go("txt", paths=[archive], out=None)[0].problems[0]
    assert problem.endswith("it is not in a folder; use --out DIR or write jsonl")
    out = tmp_path / "out"
    go("txt", "jsonl", paths=[archive], out=out)
    assert records(out / "captions.jsonl")[2]["path"] == f"{archive}!/more/3.png"
    assert len(list(out.rglob("*.txt"))) == 4
    assert (out / "all.zip!" / "more" / "3.png.txt").read_text() == "photo 3.png\n"
    assert go("txt", "jsonl", paths=[archive], out=out) == []


def test_cells_that_a_spreadsheet_would_run(go: Go, photos: Path) -> None:
    """They are written as text, and every reader of captioner returns them unchanged."""
    shutil.copy(photos / "1.png", photos / "=cmd.png")
    go("csv", template="=HYPERLINK({caption})")
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][:2] == ["1.png", "'=HYPERLINK(photo 1.png)"]
    assert [row[0] for row in rows if "=cmd" in row[0]] == ["'=cmd.png"]
    assert not [cell for row in rows for cell in row[:2] if cell[:1] in "=+-@\t"]
    assert go("csv") == []
    assert len(go("csv", existing="append")) == 5
    samples = {sample.name: sample.captions for sample in read_splits(photos).splits["all"]}
    assert samples["=cmd.png"] == ("=HYPERLINK(photo =cmd.png), photo =cmd.png",)
    assert dict(read_predictions(photos / "captions.csv"))["=cmd.png"] == samples["=cmd.png"][0]


@pytest.mark.parametrize("output", ["txt", "caption", "jsonl", "csv", "metadata"])
def test_what_is_written_can_be_trained_on_as_it_is(go: Go, photos: Path, output: str) -> None:
    """Captions that were set aside for review are not training data."""
    shutil.copy(photos / "1.png", photos / "doubt.png")
    go(output, min_confidence=0.5)
    assert (photos / "review.jsonl").exists()
    samples = read_splits(photos).splits["all"]
    assert {sample.name: sample.captions for sample in samples} == {n: (f"photo {Path(n).name}",) for n in NAMES}


@pytest.mark.parametrize(
    ("photo", "other", "text"),
    [
        ("A.JPG", "", "A.TXT"),
        ("photo.jpeg", "", "photo.jpeg.txt"),
        ("c.png", "c.webp", "c.txt"),
        ("d.png", "", "D.Txt"),
    ],
)
def test_every_command_sees_the_same_captions(photos: Path, go: Go, photo: str, other: str, text: str) -> None:
    from captioner.data.sources import read_splits

    shutil.rmtree(photos / "more")
    shutil.copy(photos / "1.png", photos / photo)
    if other:
        shutil.copy(photos / "2.png", photos / other)
    (photos / text).write_text("said before\n")
    names = {photo, other} - {""}
    for name in ("1", "2"):
        (photos / f"{name}.png").unlink()
    (samples,) = read_splits(photos).splits.values()
    assert {sample.name for sample in samples if sample.captions == ("said before",)} == names
    assert go("txt") == []
    assert go.counts.skipped == len(names)  # type: ignore[attr-defined]
    assert len(go("txt", existing="append")) == len(names)
    (samples,) = read_splits(photos).splits.values()
    assert {sample.name: sample.captions for sample in samples} == {n: (f"said before, photo {n}",) for n in names}
    if other:  # it is not one photo's alone
        assert (photos / text).read_text() == "said before\n"
    else:
        assert sorted(path.name for path in photos.glob("*.[tT]*")) == [text]


def test_a_blank_file_hides_no_caption(photos: Path, go: Go) -> None:
    (photos / "1.png.txt").write_text(" \n")
    (photos / "1.txt").write_text("said\n")
    assert [outcome.photo.id.rpartition("/")[2] for outcome in go("txt")] == ["2.png", "3.png", "10.png"]


def test_a_stopped_run_goes_on_with_a_file_in_capitals(photos: Path) -> None:
    shutil.copy(photos / "1.png", photos / "A.PNG")
    (photos / "A.TXT").write_text("said before\n")
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("txt",), existing="append")
    first = Run(plan, {})
    (photo,) = [p for p in first.todo(photos_of(find_items([photos]), plan.place)) if p.id.endswith("A.PNG")]
    entry = first._entry(photo, Caption("new", -0.5, 0.8))
    first.journal.add([entry])
    first.close()
    Run(plan, {}).close()
    assert (photos / "A.TXT").read_text() == "said before, new\n"
    assert not (photos / "A.txt").exists()
