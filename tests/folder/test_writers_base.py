"""Caption files of photos in archives, in folders that ignore case and under names that Windows refuses."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

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
