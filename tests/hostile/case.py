"""A row of the table of hard input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CAPTION = "a caption"
NOT_AN_IMAGE = "it is not an image, or its format is not supported"
TRUNCATED = "the file is truncated"
WEBP = "the file is truncated or damaged"
LARGE = "its 30000 x 30000 pixels exceed the limit of 200 megapixels"
DAMAGED = "the file is damaged or its format is unsupported"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hard input.

    ``name``: its path below the folder of the run. ``outcome``: ``CAPTION`` or the error; empty for an input that must
    not appear in the output. ``shown``: the name in the table, if it differs. ``archive``: the file that contains it,
    and the content of that file.
    """

    name: str
    what: str
    outcome: str
    make: Callable[[Path], object]
    shown: str = ""
    archive: tuple[str, bytes] | None = None


def file(name: str, what: str, outcome: str, data: bytes, shown: str = "") -> Case:
    return Case(name=name, what=what, outcome=outcome, make=lambda path: path.write_bytes(data), shown=shown)
