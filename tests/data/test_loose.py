"""Images found by names in another spelling, and names that lead out of their folder on Windows."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from captioner.data.sources.rows import ImageFinder
from captioner.errors import DataError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "data" / "Sub").mkdir(parents=True)
    (tmp_path / "data" / "Sub" / "Café.JPG").touch()
    (tmp_path / "data" / "a..b.png").touch()
    (tmp_path / "secret.jpg").touch()
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["sub/café.jpg", r"SUB\CAFÉ.jpg", "Sub/Café", "./Sub//Café.JPG"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_case_slashes_suffix_and_unicode_form_do_not_matter(top: Path, name: str, form: str) -> None:
    """Tables from a Mac hold decomposed letters."""
    assert ImageFinder(top).find(unicodedata.normalize(form, name)) == top / "Sub" / "Café.JPG"  # type: ignore[arg-type]


def test_two_dots_inside_a_name_do_not_leave(top: Path) -> None:
    assert ImageFinder(top).find("A..B.png") == top / "a..b.png"


@pytest.mark.parametrize("name", ["../secret.jpg", r"..\secret.jpg", "/secret.jpg", r"Sub\..\..\secret.jpg"])
def test_a_name_outside_is_refused(top: Path, name: str) -> None:
    with pytest.raises(DataError, match="which is outside"):
        ImageFinder(top).find(name, "table.csv:2")


@pytest.mark.parametrize("name", ["Sub/C:/secret.jpg", "C:secret.jpg", r"Sub\C:secret.jpg"])
def test_a_drive_inside_a_name_is_never_joined(top: Path, name: str) -> None:
    """On Windows, joining ``Sub`` and ``C:`` gives the drive C."""
    assert ImageFinder(top).find(name) is None
