"""Cells that spreadsheets would run are written as text and read back unchanged."""

from __future__ import annotations

import itertools
import re

import pytest

from captioner.data.cells import guarded, unguarded


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a dog", "a dog"),
        ("", ""),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-2", "'-2"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("'tis", "'tis"),
        ("a;=cmd", "a;'=cmd"),
        ("a\n-b", "a\n'-b"),
        ("a well-known dog = a dog", "a well-known dog = a dog"),
    ],
)
def test_cells(text: str, cell: str) -> None:
    assert guarded(text) == cell
    assert unguarded(cell) == text


def test_every_text_comes_back() -> None:
    for size in range(6):
        for letters in itertools.product("'=;\ta", repeat=size):
            text = "".join(letters)
            cell = guarded(text)
            assert unguarded(cell) == text
            assert not re.search(r"(^|[;\t\r\n])[=\t]", cell)
