"""A renamed file is on the disk before its rename, and its name after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captioner.system import disk

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="names of open files are asked of /proc")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names, by their last part, of flushed and renamed files in order."""
    found: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        found.append("force " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def watched_replace(old: str, new: str) -> None:
        found.append(f"rename {os.path.basename(old)} {os.path.basename(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return found


def test_a_file(tmp_path: Path, events: list[str]) -> None:
    (tmp_path / "a.partial").write_text("new")
    (tmp_path / "a").write_text("old")
    disk.put_in_place(tmp_path / "a.partial", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new"
    assert events == ["force a.partial", "rename a.partial a", f"force {tmp_path.name}"]


def test_a_folder_with_all_in_it(tmp_path: Path, events: list[str]) -> None:
    (tmp_path / "best.partial" / "adapter").mkdir(parents=True)
    (tmp_path / "best.partial" / "config.json").touch()
    (tmp_path / "best.partial" / "adapter" / "weights").touch()
    disk.put_in_place(tmp_path / "best.partial", tmp_path / "best")
    *forced, renamed, last = events
    assert sorted(forced) == ["force adapter", "force best.partial", "force config.json", "force weights"]
    assert (renamed, last) == ("rename best.partial best", f"force {tmp_path.name}")


def test_a_name_without_a_folder(tmp_path: Path, events: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").touch()
    disk.put_in_place("a", "b", forced=True)
    assert events == ["rename a b", f"force {tmp_path.name}"]


def test_a_file_system_that_cannot_force_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [22, 5]

    def refuse(descriptor: int) -> None:
        raise OSError(errors.pop(0), "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    disk.sync_folder(tmp_path)
    with pytest.raises(OSError, match="refused"):
        disk.sync_folder(tmp_path)


def test_nobody_else_renames_into_place() -> None:
    """Other modules have to rename through the helper."""
    house = Path(disk.__file__).parents[1]
    allowed = {house / "system" / "disk.py": 4}  # into place; an old folder aside, and back
    found = {}
    for path in house.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if times := sum(text.count(call) for call in ("os.replace(", "os.rename(", ".rename(")):
            found[path] = times
    assert found == allowed


@pytest.mark.parametrize(("windows", "failures", "renamed"), [(True, 3, True), (True, 9, False), (False, 1, False)])
def test_windows_tries_again_while_a_file_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool, failures: int, renamed: bool
) -> None:
    replace, pauses, left = os.replace, list[float](), [failures]

    def busy(old: str, new: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "in use")
        replace(old, new)

    (tmp_path / "a.partial").write_text("new")
    monkeypatch.setattr(disk, "WINDOWS", windows)
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(disk.time, "sleep", pauses.append)
    if renamed:
        disk._replace(tmp_path / "a.partial", tmp_path / "a")
    else:
        with pytest.raises(PermissionError):
            disk._replace(tmp_path / "a.partial", tmp_path / "a")
    assert (tmp_path / "a").exists() is renamed
    assert sum(pauses) < 2
    assert len(pauses) == (min(failures, 5) if windows else 0)
