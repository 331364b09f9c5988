"""A foreign journal in the folder."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import OutputError
from captioner.folder import own
from captioner.folder.entry import CaptionRecord, Entry, Slot
from captioner.folder.journal import Journal
from captioner.folder.plan import Plan, place_of
from captioner.folder.report import page

from .conftest import Go
from .test_run import files, stopped_after

SAID = (CaptionRecord("ssh-rsa AAAA", 0.0, 1.0),)


def entry(key: str, file: str, output: str = "txt") -> Entry:
    return Entry(id=key, key=key, captions=SAID, slots={output: Slot(file, "")})


def test_labels_survive_an_interrupt_and_older_journals_are_read(photos: Path) -> None:
    labelled = CaptionRecord("a cat", -0.5, 0.8, (("cat", 0.97), ("couch", 0.5)), unsure=True)
    journal = Journal(None)
    journal.add([Entry(id="a", key="a", captions=(labelled, *SAID), slots={"txt": Slot()}), entry("b", "")])
    assert [found.captions for found in journal.entries("txt")] == [(labelled, *SAID), SAID]
    journal._database.execute("UPDATE done SET said = '[[\"old\", -1.5, 0.5]]' WHERE place = 1")
    assert next(iter(journal.entries("txt"))).captions == (CaptionRecord("old", -1.5, 0.5),)
    journal.close()


def planted(photos: Path, *entries: Entry, **options: Any) -> Plan:
    """Write the journal of an interrupted run into the folder, with captions that are not yet written."""
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("txt",), **options)
    journal = Journal(os.fspath(photos / ".captioner.journal"))
    journal.put(run={"plan": plan.identity()}, tokens=["00000000"])
    journal.add(entries)
    journal.close()
    return plan


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "home" / "keys.txt"
    path.parent.mkdir()
    path.write_text("mine")
    yield path
    assert path.read_text() == "mine"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("template", ["{caption}", "other {caption}"], ids=["the same command", "another one"])
@pytest.mark.parametrize("key", ["1.png", "../home/keys.png", "{home}/keys.png"])
@pytest.mark.parametrize("file", ["{home}/keys.txt", "{photos}/../home/keys.txt", "../home/keys.txt", ""])
def test_a_file_elsewhere_is_refused(
    go: Go, photos: Path, victim: Path, template: str, key: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    names = {"home": victim.parent, "photos": photos}
    planted(photos, entry(key.format(**names), file.format(**names)), template=template)
    if key.startswith("{") and file and template == "{caption}":
        go("txt")  # a listed photo may be elsewhere; this command does not name it
        assert "but this command does not name it; name it too, or remove" in go.problems[0]  # type: ignore[attr-defined]
        assert (photos / "1.txt").read_text() == "photo 1.png\n"
        return
    with pytest.raises(OutputError, match=r"not belong to a run here|holds captions of another command") as refusal:
        go("txt")
    assert "\n" not in str(refusal.value)
    assert ".captioner.lock" not in files(photos)


def test_a_plan_of_another_folder_is_refused(go: Go, photos: Path, victim: Path) -> None:
    plan = Plan(place=place_of([os.fspath(victim.parent)], None), outputs=("txt",))
    journal = Journal(os.fspath(photos / ".captioner.journal"))
    journal.put(run={"plan": plan.identity()})
    journal.add([entry("keys.png", os.fspath(victim))])
    journal.close()
    with pytest.raises(OutputError, match=rf"belongs to a run in {victim.parent}; move it back there, or remove it"):
        go("txt")


def test_a_photo_of_a_list_goes_on_where_the_list_names_it(
    go: Go, photos: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """The journal keeps the caption for the command that names the photo."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pattern = os.path.join("..", "photos", "*.png")
    plan = Plan(place=place_of([pattern], None), outputs=("txt",))
    journal = Journal(os.fspath(tmp_path / "here" / ".captioner.journal"))
    journal.put(run={"plan": plan.identity()})
    journal.add([entry(os.fspath(photos / "1.png"), os.fspath(photos / "1.txt"))])
    journal.close()
    go("txt", paths=[pattern])
    assert go.said == ["2.png"]  # type: ignore[attr-defined]
    assert (photos / "1.txt").read_text() == "ssh-rsa AAAA\n"
    assert not list((tmp_path / "here").iterdir())


def test_files_that_are_not_this_users_own(
    go: Go, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / ".captioner.journal"
    stopped_after(photos, 1, "txt")
    path.rename(tmp_path / "real")
    for place, make, why in (
        (path, lambda: path.symlink_to(tmp_path / "real"), "it is a symlink or hard link"),
        (path, lambda: os.link(tmp_path / "real", path), "it is a symlink or hard link"),
        (path, lambda: os.mkfifo(path), "it is not a regular file"),
        (photos / ".captioner.journal-wal", lambda: os.mkfifo(photos / ".captioner.journal-wal"), "not a regular file"),
        (
            photos / ".captioner.lock",
            lambda: (photos / ".captioner.lock").symlink_to(tmp_path / "real"),
            "it is a symlink or hard link",
        ),
    ):
        make()
        with pytest.raises(OutputError, match=f"{why}; remove it, or write elsewhere with --out DIR"):
            go("txt")
        place.unlink()
    (tmp_path / "real").rename(path)
    monkeypatch.setattr(own.os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(own, "_owner_here", lambda path: None)
    with pytest.raises(OutputError, match="it belongs to another user"):
        go("jsonl")
    monkeypatch.setattr(own, "_owner_here", lambda path: os.getuid())  # a disk that gives all files one owner
    assert len(go("jsonl")) == 4


def test_a_rollback_journal_deletes_nothing(go: Go, photos: Path, victim: Path) -> None:
    """SQLite's rollback journal names another file, which SQLite removes after a rollback."""
    stopped_after(photos, 1, "txt")
    path, name, magic = photos / ".captioner.journal", os.fsencode(victim), bytes.fromhex("d9d505f920a163d7")
    sizes = (0, 0, path.stat().st_size // 4096, 512, 4096)  # no records, no salt, pages, sector, bytes of a page
    head = magic + b"".join(size.to_bytes(4, "big") for size in sizes)
    numbers = [number.to_bytes(4, "big") for number in (0x40000000 // 4096 + 1, len(name), sum(name))]
    tail = numbers[0] + name + numbers[1] + numbers[2] + magic
    (photos / ".captioner.journal-journal").write_bytes(head.ljust(512, b"\0") + tail)
    go("txt")
    assert (photos / "2.txt").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON done BEGIN DELETE FROM settings; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (a)",
        "UPDATE settings SET value = '{' WHERE name = 'run'",
        "UPDATE settings SET value = '7' WHERE name = 'run'",
        "UPDATE settings SET value = '{\"plan\": 7}' WHERE name = 'run'",
        "UPDATE settings SET value = '-1' WHERE name = 'size:jsonl'",
        "UPDATE settings SET value = '\"a\"' WHERE name = 'size:jsonl'",
        "UPDATE settings SET value = '7' WHERE name = 'tokens'",
        "UPDATE done SET said = '[]', waiting = 'txt'",
        "UPDATE done SET said = '[[1]]', waiting = 'txt'",
        "UPDATE done SET said = 'x', waiting = 'txt'",
        "UPDATE done SET slots = '[]', waiting = 'txt'",
        "UPDATE done SET slots = '{\"txt\": [1, 2]}', waiting = 'txt'",
        'UPDATE done SET slots = \'{"xmp": ["/x", ""]}\', waiting = \'xmp\'',
        "UPDATE done SET key = 5, waiting = 'txt'",
        "UPDATE done SET waiting = 'what'",
        f"UPDATE done SET said = '{'[' * 5000}', waiting = 'txt'",
    ],
)
def test_what_is_damaged_in_it_is_one_sentence(go: Go, photos: Path, statement: str) -> None:
    stopped_after(photos, 1, "txt", "jsonl")
    with closing(sqlite3.connect(photos / ".captioner.journal")) as base, base:
        base.execute(statement)
    before = files(photos)
    if "tokens" in statement:
        assert len(go("txt", "jsonl")) == 3, "a token that is none removes nothing"
        return
    with pytest.raises(OutputError, match=rf"^{photos}/.captioner.journal .*(move it away|remove it)"):
        go("txt", "jsonl")
    assert files(photos) == before


def test_a_report_shows_no_photo_of_elsewhere(photos: Path, victim: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes((photos / "1.png").read_bytes())
    plan = planted(
        photos, entry(os.fspath(other), ""), Entry(id=os.fspath(photos / "2.png"), key="2.png", captions=SAID)
    )
    journal = Journal(os.fspath(photos / ".captioner.journal"))
    assert page(journal, plan, "t", (), walk=lambda names: ()).count("<img src=") == 1
    journal.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", json.dumps({"path": "\ud800.png", "caption": "a"}) + "\n", ""),
        ("captions.jsonl", json.dumps({"path": "a\0.png", "caption": "a"}) + "\n", ""),
        ("captions.jsonl", "[" * 9000 + "\n", ""),
        ("captions.jsonl", "x" * (4 << 20) + "\n", "has a line of more than 4 MB; move it away"),
        ("captions.csv", "path,caption,score,confidence\n" + "x" * 200_000 + ",a,0,0\n", "is not valid CSV"),
        ("captions.csv", "path,caption,score,confidence\n" + "\n" + "x" * (4 << 20), "has a line of more than 4 MB"),
    ],
)
def test_tables_of_other_people(go: Go, photos: Path, name: str, content: str, message: str) -> None:
    (photos / name).write_text(content)
    output = Path(name).suffix[1:]
    if message:
        with pytest.raises(OutputError, match=message):
            go(output)
        assert (photos / name).read_text() == content
    else:
        go(output, existing="overwrite")
        assert (photos / name).read_text().startswith(content)


@pytest.mark.parametrize("output", ["txt", "caption", "jsonl", "csv", "metadata", "coco"])
def test_pipes_are_not_waited_for(go: Go, photos: Path, output: str) -> None:
    names = {
        "jsonl": "captions.jsonl",
        "csv": "captions.csv",
        "metadata": "metadata.jsonl",
        "coco": "captions.coco.json",
    }
    os.mkfifo(photos / names.get(output, f"1.{output}"))
    if output in names:
        with pytest.raises(OutputError, match="it is a pipe, socket or device, not a file; move it away"):
            go(output)
    else:
        found = go(output)
        assert [outcome.state for outcome in found] == ["failed", *["captioned"] * 3]
        assert "it is a pipe" in found[0].problems[0]


def test_a_caption_file_of_any_size_is_not_read(go: Go, photos: Path) -> None:
    with open(photos / "1.txt", "wb") as file:
        file.truncate(5 << 30)
    assert "larger than the limit of 1 MB" in go("txt")[0].problems[0]
