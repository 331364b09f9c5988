"""The progress bar: images per second and the time left on a terminal, nothing elsewhere."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import pytest

from captioner.cli.progress import Progress
from captioner.folder.run import Counts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("1.jpg", "a/2.png", "a/notes.txt", "a/.hidden.jpg", ".cache/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def counted(paths: list[str], parts: int, counts: Counts) -> Progress:
    progress = Progress(paths, parts, counts)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon and "_count" in thread.name:
            thread.join(10)
    return progress


def test_the_number_of_photos_gives_the_time_left(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    counts = Counts()
    with counted([str(photos), str(photos / "a" / "notes.txt")], 1, counts) as progress:
        progress.step()
        assert (progress._bar.n, progress._bar.total) == (1, 3)
        counts.skipped = 1
        progress.step()
        assert (progress._bar.n, progress._bar.total) == (2, 2), "what is skipped is neither done nor left"
        progress.print_line("cannot read it")
    assert "captioner: cannot read it\n" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "images" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_patterns_and_stdin_have_no_number(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for paths in (["-"], [f"{photos}/*.jpg"], []):
        with counted(paths, 1, Counts()) as progress:
            progress.step()
            assert progress._bar.total is None


def test_nothing_where_nobody_looks(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with counted([str(photos)], 1, Counts()) as progress:
        progress.step()
        progress.wait("assembling files")
        progress.print_line("one line")
    assert capsys.readouterr().err == "captioner: one line\n"
