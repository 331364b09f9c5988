"""Cells of the CSV that is written here, so that no spreadsheet runs what a caption or a file's name says.

Spreadsheets take a cell that begins with one of ``= + - @`` or a tab for a formula, and a formula can start programs or
send the table away. Such a cell gets an apostrophe before it, which makes it text. A spreadsheet that divides cells at
semicolons, tabs or lines sees cells where there are none, so what follows one of these is treated alike. The inverse
takes one apostrophe away; one that was there before gets another, so that every text comes back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

COLUMNS = ("path", "caption", "score", "confidence")
"""The columns of the table, by which it is known when it is read back."""
_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
_RUNS = r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]"  # the last four: the wide forms of the first four
_TO_GUARD = re.compile(f"{_BEGINS}(?={_RUNS})")
_GUARDED = re.compile(f"{_BEGINS}'(?={_RUNS})")


def guarded(text: str) -> str:
    """The text as a cell that no spreadsheet runs."""
    return _TO_GUARD.sub("'", text)


def unguarded(cell: str) -> str:
    """The inverse of ``guarded``."""
    return _GUARDED.sub("", cell)


def is_ours(header: Sequence[str]) -> bool:
    """Whether a table with this header is one whose cells are guarded."""
    return tuple(header) == COLUMNS
