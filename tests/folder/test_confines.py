"""Links out of the folder of photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captioner.errors import OutputError
from captioner.folder.confines import Confines
from captioner.folder.plan import Plan, place_of

from .conftest import Go
from .test_run import records, stopped_after

TABLES = {"jsonl": "captions.jsonl", "csv": "captions.csv", "metadata": "metadata.jsonl", "coco": "captions.coco.json"}


@pytest.mark.parametrize("output", ["txt", "caption", *TABLES])
def test_a_link_out_is_not_written_through(go: Go, photos: Path, tmp_path: Path, output: str) -> None:
    victim = tmp_path / "victim"
    link = photos / TABLES.get(output, f"1.{output}")
    link.symlink_to(victim)
    sentence = (
        f"cannot write {link}: a symlink leads to {victim}, out of {photos}; use --follow-links to write through it, "
        "or write elsewhere with --out DIR"
    )
    if output in TABLES:
        with pytest.raises(OutputError) as refusal:
            go(output)
        assert str(refusal.value) == sentence
    else:
        found = go(output)
        assert [outcome.problems for outcome in found] == [(sentence,), (), (), ()]
    assert not victim.exists()
    go(output, follow_links=True)
    assert link.is_symlink()
    assert "photo 1.png" in victim.read_text()


def test_captions_behind_a_link_are_captions(go: Go, photos: Path, tmp_path: Path) -> None:
    """Nothing has to be written there, so there is no error."""
    (tmp_path / "victim").write_text("mine")
    (photos / "1.txt").symlink_to(tmp_path / "victim")
    assert [outcome.photo.key for outcome in go("txt")] == ["2.png", "more/3.png", "more/10.png"]
    go("txt", existing="overwrite")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_link_inside_is_followed(go: Go, photos: Path) -> None:
    (photos / "texts").mkdir()
    (photos / "1.txt").symlink_to(os.path.join("texts", "one"))
    go("txt")
    assert (photos / "texts" / "one").read_text() == "photo 1.png\n"
    assert (photos / "1.txt").is_symlink()


def test_a_folder_behind_a_link(go: Go, photos: Path, tmp_path: Path) -> None:
    """The run reads photos there and writes files beside them under the path of the command."""
    (photos / "more").rename(tmp_path / "elsewhere")
    (photos / "more").symlink_to(tmp_path / "elsewhere")
    found = {outcome.photo.key: outcome for outcome in go("txt", "jsonl")}
    assert "out of" in found["more/3.png"].problems[0]
    assert not list((tmp_path / "elsewhere").glob("*.txt"))
    assert len(records(photos / "captions.jsonl")) == 2
    assert len(go("jsonl")) == 2
    go("txt", paths=[photos, photos / "more"], out=None)
    assert (tmp_path / "elsewhere" / "3.txt").read_text() == "photo 3.png\n"


def test_a_linked_folder_of_results(go: Go, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "more").symlink_to(tmp_path)
    found = go("txt", out=tmp_path / "out")
    assert [bool(outcome.problems) for outcome in found] == [False, False, True, True]
    assert not (tmp_path / "3.txt").exists()


def test_folders_that_are_named_are_written_into(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (photos / "link").symlink_to(tmp_path)
    named = Confines(Plan(place=place_of([os.fspath(photos), "."], None)))
    listed = Confines(Plan(place=place_of(["-"], None)))
    for confines, inside in ((named, True), (listed, False)):
        assert confines.real(os.fspath(photos / "1.txt")) == os.fspath(photos / "1.txt")
        assert confines.holds(os.fspath(photos / "1.txt")) == inside
    with pytest.raises(OutputError):
        named.real(os.fspath(photos / "link" / "1.txt"))
    assert listed.real(os.fspath(photos / "link" / "1.txt")) == os.fspath(tmp_path / "1.txt"), "it was named itself"


@pytest.mark.parametrize("output", ["txt", *TABLES])
def test_a_second_name_of_a_file_keeps_what_it_has(go: Go, photos: Path, tmp_path: Path, output: str) -> None:
    """A hard link, such as in a backup or from an archive, keeps its content."""
    go(output)
    path = photos / TABLES.get(output, f"1.{output}")
    os.link(path, tmp_path / "backup")
    before = path.read_bytes()
    (photos / "new.png").write_bytes((photos / "1.png").read_bytes())
    go(output, existing="overwrite" if output == "txt" else "skip", template="new {caption}")
    assert (tmp_path / "backup").read_bytes() == before
    assert b"new photo" in path.read_bytes()


@pytest.mark.parametrize("output", ["jsonl", "csv"])
def test_a_stopped_run_does_not_cut_a_second_name(go: Go, photos: Path, tmp_path: Path, output: str) -> None:
    stopped_after(photos, 2, output)
    path = photos / TABLES[output]
    with open(path, "ab") as file:
        file.write(path.read_bytes()[-20:-3])
    os.link(path, tmp_path / "backup")
    before = path.read_bytes()
    go(output)
    assert (tmp_path / "backup").read_bytes() == before
    assert sum(path.read_text().count(f"photo {n}.png") for n in (1, 2, 3, 10)) == 4
