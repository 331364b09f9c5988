"""Caption files of photos in archives, in folders that ignore case and under names that Windows refuses."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.captioning.captions import Caption
from captioner.data.items import Item
from captioner.folder.entry import Photo
from captioner.folder.job import photos_of
from captioner.folder.plan import Plan, Shard, place_of
from captioner.folder.run import Outcome, Run, dry_run
from captioner.folder.writers import base
from captioner.system import names

from .conftest import Go


def archive(path: Path, *members: str) -> Path:
    content = io.BytesIO()
    Image.new("RGB", (8, 6)).save(content, "png")
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, content.getvalue())
    return path


def written(folder: Path) -> dict[str, str]:
    texts = sorted(path for path in folder.rglob("*.txt"))
    return {path.relative_to(folder).as_posix(): path.read_text().strip() for path in texts}


def test_photos_that_differ_in_case_have_two_files(go: Go, tmp_path: Path) -> None:
    photos = archive(tmp_path / "a.zip", "A/1.png", "a/1.png", "a/2.PNG")
    out = tmp_path / "out"
    assert not [outcome.problems for outcome in go("txt", paths=[photos], out=out) if outcome.problems]
    if len(list((out / "a.zip!").iterdir())) == 1:
        pytest.skip("this file system ignores case")
    assert written(out).keys() == {"a.zip!/A/1.png.txt", "a.zip!/a/1.png.txt", "a.zip!/a/2.PNG.txt"}


def test_in_a_folder_that_ignores_case_none_replaces_another(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "ignores_case", lambda file: file.endswith(".captioner.lock"))
    photos = archive(tmp_path / "a.zip", "A/1.png", "a/1.png", "a/2.png")
    out = tmp_path / "out"
    for _ in range(2):  # the second run finds the file of the first photo, which is not that of the second
        problems = [outcome.problems for outcome in go("txt", paths=[photos], out=out) if outcome.problems]
        assert len(problems) == 1
        assert problems[0][0].startswith(f"cannot write {out}/a.zip!/a/1.png.txt: it is the file of another photo")
        assert written(out) == {"a.zip!/A/1.png.txt": "photo 1.png", "a.zip!/a/2.png.txt": "photo 2.png"}
    assert not [outcome for outcome in go("jsonl", paths=[photos], out=out) if outcome.problems], "as the message says"


ADDRESSES = ("http://h/x.png", "https://h/x.png", "http://h/y.png", "https://h//y.png")


def of_addresses(plan: Plan, order: tuple[str, ...] = ADDRESSES) -> Iterator[Photo]:
    return photos_of((Item(id=name, read=bytes) for name in order), plan.place)


def address_plan(out: Path, **options: Any) -> Plan:
    options = {"outputs": ("txt",), **options}
    return Plan(place=place_of(ADDRESSES, os.fspath(out)), **options)


def going(run: Run, order: tuple[str, ...] = ADDRESSES) -> Iterator[Outcome]:
    """Caption each URL by its scheme."""

    def say(sources: Any) -> Iterator[Any]:
        for source in sources:
            yield source if isinstance(source, Exception) else Caption(source.id.partition(":")[0], -0.5, 0.8)

    return run.caption(run.todo(of_addresses(run.plan, order)), say, together=1)


def problems_of(run: Run, order: tuple[str, ...] = ADDRESSES) -> list[tuple[str, str]]:
    try:
        found = [(outcome.photo.id, *outcome.problems) for outcome in going(run, order) if outcome.problems]
        assert run.finish() == []
    finally:
        run.close()
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append"])
def test_of_two_photos_with_one_file_the_second_is_refused(existing: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for times in (1, 2):
        found = problems_of(Run(address_plan(out, existing=existing), {}))
        assert [name for name, _ in found] == ["https://h/x.png", "https://h//y.png"]
        assert found[0][1].startswith(f"cannot write {out}/h/x.png.txt: it is the file of another photo already; write")
        text = ", ".join(["http"] * times) if existing == "append" else "http"
        assert written(out) == {"h/x.png.txt": text, "h/y.png.txt": text}
    assert problems_of(Run(address_plan(out, outputs=("jsonl",)), {})) == [], "as the message says"


@pytest.mark.parametrize("order", [ADDRESSES, ADDRESSES[::-1]], ids=["same order", "another order"])
@pytest.mark.parametrize("outputs", [("txt",), ("txt", "jsonl")])
@pytest.mark.parametrize("existing", ["skip", "overwrite"])
def test_a_file_stays_that_of_its_photo_across_a_resume(
    order: tuple[str, ...], outputs: tuple[str, ...], existing: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = Run(address_plan(out, existing=existing, outputs=outputs), {})
    next(going(run))
    run.close()
    assert written(out) == {"h/x.png.txt": "http"}
    found = problems_of(Run(address_plan(out, existing=existing, outputs=outputs), {}), order)
    assert "https://h/x.png" in dict(found)
    assert len(found) == 2
    assert written(out)["h/x.png.txt"] == "http"


def test_a_file_of_a_photo_that_only_needs_a_row_stays_its_own_across_a_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    problems_of(Run(address_plan(out), {}), ADDRESSES[:1])
    run = Run(address_plan(out, outputs=("txt", "jsonl")), {})
    next(going(run))  # its text exists, so the journal only has its row
    run.close()
    found = problems_of(Run(address_plan(out, outputs=("txt", "jsonl")), {}))
    assert [name for name, _ in found] == ["https://h/x.png", "https://h//y.png"]


def test_shards_agree_whose_file_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plans = [address_plan(out, shard=Shard(number=number, of=4)) for number in (4, 3, 2, 1)]
    assert len([plan for plan in plans if any(plan.shard and plan.shard.holds(name) for name in ADDRESSES[:2])]) == 2
    ahead = [pair for plan in plans for pair in dry_run(plan, of_addresses(plan))]
    assert sorted(photo.id for photo, decision in ahead if isinstance(decision, Exception)) == sorted(ADDRESSES[1::2])
    found = [name for plan in plans for name, _ in problems_of(Run(plan, {}))]
    assert sorted(found) == sorted(ADDRESSES[1::2])
    assert written(out) == {"h/x.png.txt": "http", "h/y.png.txt": "http"}


def test_a_folder_below_and_one_elsewhere(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pics"
    below = tmp_path / "here" / os.path.relpath(pictures, "/")
    for folder, files in ((below, ("1.png", "2.png")), (pictures, ("1.png", "3.png", "3.jpg"))):
        folder.mkdir(parents=True)
        for name in files:
            Image.new("RGB", (8, 6)).save(folder / name)
    monkeypatch.chdir(tmp_path / "here")
    out = tmp_path / "out"
    for _ in range(2):
        found = go("txt", paths=[below, pictures], out=out)
        assert [outcome.photo.id for outcome in found if outcome.problems] == [os.fspath(pictures / "1.png")]
        texts = {Path(name).name: text for name, text in written(out).items()}
        assert texts.keys() == {"1.txt", "2.txt", "3.png.txt", "3.jpg.txt"}


def test_a_photo_does_not_take_the_file_of_another_folder_for_its_own(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pics"
    below = tmp_path / "here" / os.path.relpath(pictures, "/")
    for folder, files in ((below, ("1.png", "1.jpg")), (pictures, ("1.png",))):
        folder.mkdir(parents=True)
        for name in files:
            Image.new("RGB", (8, 6)).save(folder / name)
    monkeypatch.chdir(tmp_path / "here")
    out = tmp_path / "out"
    assert len(go("txt", paths=[pictures, pictures], out=out)) == 1
    assert len(go("txt", paths=[pictures, below], out=out)) == 2
    assert {Path(name).name for name in written(out)} == {"1.txt", "1.png.txt", "1.jpg.txt"}


def test_files_beside_photos_are_not_looked_at_for_case(go: Go, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ignores_case", lambda file: True)
    Image.new("RGB", (8, 6)).save(photos / "1.PNG")
    assert not [outcome for outcome in go("txt") if outcome.problems]


def test_names_that_windows_refuses_are_escaped(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "WINDOWS", True)
    photos = archive(tmp_path / "a.zip", "aux/con.png", "c:/x.png", "end./y.png", "../../up.png", r"back\slash.png")
    out = tmp_path / "out"
    assert not [outcome.problems for outcome in go("txt", paths=[photos], out=out) if outcome.problems]
    assert written(out).keys() == {
        "a.zip!/%61ux/%63on.png.txt",
        "a.zip!/c%3A/x.png.txt",
        "a.zip!/end%2E/y.png.txt",
        "a.zip!/up.png.txt",
        "a.zip!/back/slash.png.txt",
    }
    assert go("txt", paths=[photos], out=out) == [], "a second run finds them"


def test_the_lock_of_a_run_tells_whether_case_counts(tmp_path: Path) -> None:
    for name in (".captioner.lock", ".captioner.00001-of-00002.lock", "my.lock", ".captioner.journal"):
        (tmp_path / name).touch()
    assert {os.path.basename(path) for path in base.locks(os.fspath(tmp_path))} == {
        ".captioner.lock",
        ".captioner.00001-of-00002.lock",
    }
