"""Escaping of CSV cells against formula injection through captions and file names.

Spreadsheets treat a cell that begins with ``= + - @`` or a tab as a formula, and a formula can start programs or send
the table elsewhere. An apostrophe in front turns such a cell into text. Some spreadsheets also split cells at
semicolons, tabs or line breaks, so text after these gets an apostrophe too. The inverse removes one apostrophe; an
original apostrophe is doubled, so every text survives the round trip.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

COLUMNS = ("path", "caption", "score", "confidence", "labels", "unsure")
"""The columns of the table, which identify it when it is read back."""
OLDER = (COLUMNS[:4], COLUMNS[:5])
"""The columns of older tables."""
_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
_RUNS = r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]"  # the last four: the wide forms of the first four
_TO_GUARD = re.compile(f"{_BEGINS}(?={_RUNS})")
_GUARDED = re.compile(f"{_BEGINS}'(?={_RUNS})")


def guarded(text: str) -> str:
    """Return ``text`` as a cell that no spreadsheet executes."""
    return _TO_GUARD.sub("'", text)


def unguarded(cell: str) -> str:
    """Return the text of a cell; the inverse of ``guarded``."""
    return _GUARDED.sub("", cell)


def is_ours(header: Sequence[str]) -> bool:
    """Return whether a table with this header has guarded cells."""
    return tuple(header) in (COLUMNS, *OLDER)
