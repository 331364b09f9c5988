"""Names that Windows does not accept, names that two systems take for one, and names that leave a folder."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from captioner.system import names
from captioner.system.names import accepted, folded, has_drive, ignores_case, may_leave


@pytest.mark.parametrize(
    ("part", "spelled"),
    [
        ("dog.jpg", "dog.jpg"),
        ("Hund im Schnee – 2.jpg", "Hund im Schnee – 2.jpg"),
        ("con", "%63on"),
        ("CON.jpg", "%43ON.jpg"),
        ("aux .tar.gz", "%61ux .tar.gz"),
        ("lpt1.jpg", "%6Cpt1.jpg"),
        ("com².jpg", "%63om².jpg"),
        ("conin$", "%63onin$"),
        ("console.jpg", "console.jpg"),
        ("com10.jpg", "com10.jpg"),
        ("a:b.jpg", "a%3Ab.jpg"),
        ("c:", "c%3A"),
        ('<>"|?*.jpg', "%3C%3E%22%7C%3F%2A.jpg"),
        ("tab\there", "tab%09here"),
        ("100%.jpg", "100%25.jpg"),
        ("name.", "name%2E"),
        ("name. .", "name%2E%20%2E"),
        ("...", "%2E%2E%2E"),
        ("a\\b", "a%5Cb"),
    ],
)
def test_names_on_windows(monkeypatch: pytest.MonkeyPatch, part: str, spelled: str) -> None:
    monkeypatch.setattr(names, "WINDOWS", True)
    assert accepted(part) == spelled
    assert accepted(spelled.replace("%", "")) == spelled.replace("%", ""), "an accepted name is unchanged"
    monkeypatch.setattr(names, "WINDOWS", False)
    assert accepted(part) == part


def test_two_names_never_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "WINDOWS", True)
    parts = ["con", "%63on", "%2563on", "a", "a.", "a%2E", "a ", "a. ", "a:", "a%3A", "a%"]
    assert len({accepted(part) for part in parts}) == len(parts)


def test_one_key_for_names_that_a_system_takes_for_one() -> None:
    assert folded("Café.JPG") == folded(unicodedata.normalize("NFD", "café.jpg"))
    assert folded("STRASSE") == folded("straße")
    assert folded("a.jpg") != folded("b.jpg")


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("images/1.jpg", False),
        (r"images\1.jpg", False),
        ("1:2.jpg", True),  # a drive for Windows
        ("/etc/passwd", True),
        (r"\Windows\x.jpg", True),  # absolute for Python up to 3.12 only
        ("C:x.jpg", True),
        (r"C:\x.jpg", True),
        (r"\\server\share\x.jpg", True),
        ("//server/share/x.jpg", True),
        ("../x.jpg", True),
        (r"a\..\..\x.jpg", True),
    ],
)
def test_names_that_leave_a_folder(name: str, leaves: bool) -> None:
    assert may_leave(name) is leaves
    if has_drive(name):
        assert may_leave(name)


def test_a_folder_that_ignores_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "File").touch()
    if sys.platform == "linux":
        assert not ignores_case(os.fspath(tmp_path / "File"))
    os.link(tmp_path / "File", tmp_path / "fILE") if not (tmp_path / "fILE").exists() else None
    assert ignores_case(os.fspath(tmp_path / "File")), "as in a folder where both names are one file"
    (tmp_path / "1").touch()
    assert not ignores_case(os.fspath(tmp_path / "1")), "a name without letters tells nothing"
    assert not ignores_case(os.fspath(tmp_path / "gone"))
