"""A row of the table of hard input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CAPTION = "a caption"
NOT_AN_IMAGE = "it is not an image, or of a format that is not supported"
TRUNCATED = "the file is truncated"
WEBP = "the file is truncated or damaged"
LARGE = "its 30000 x 30000 pixels are more than the limit of 200 megapixels"
DAMAGED = "the file is damaged or of an unsupported kind"


@dataclass(frozen=True, kw_only=True)
class Case:
    """``name`` is where it lies below the folder of the run; ``outcome`` is ``CAPTION`` or the reason of the line.

    ``shown`` is the name in the table where that differs, ``archive`` the file that it lies in and its content. A case
    whose ``outcome`` is empty must not be heard of.
    """

    name: str
    what: str
    outcome: str
    make: Callable[[Path], object]
    shown: str = ""
    archive: tuple[str, bytes] | None = None


def file(name: str, what: str, outcome: str, data: bytes, shown: str = "") -> Case:
    return Case(name=name, what=what, outcome=outcome, make=lambda path: path.write_bytes(data), shown=shown)
