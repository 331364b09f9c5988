"""The one form in which every reader hands over data: an image and its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with all its captions, in the dataset's order.

    ``name`` identifies the image inside its dataset (the file name as the annotation wrote it) and decides splits;
    ``id`` is the number that the annotation gives it, which files of results know it by.
    """

    name: str
    path: Path
    captions: tuple[str, ...]
    id: str = ""
