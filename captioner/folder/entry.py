"""Records of a run: a photo, its captions, and the outputs that receive them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioner.data.images import ImageSource


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo to caption."""

    id: str  # the name shown to the user
    key: str  # the name in the journal
    source: ImageSource
    path: Path | None = None  # its file; None inside an archive or video, or at a URL
    problem: str = ""  # error message, if there is no image


@dataclass(frozen=True)
class Slot:
    """The destination of a caption in one output."""

    file: str = ""  # path of its own file; "" for a row of a table
    old: str = ""  # the existing text


@dataclass(frozen=True)
class CaptionRecord:
    """A caption, before the template, with the score and confidence of ``captioner.pipelines.Caption``."""

    text: str
    score: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A captioned photo.

    The entry and the plan determine all that is written, so writing is idempotent.
    """

    id: str
    key: str
    captions: tuple[CaptionRecord, ...]  # best first
    slots: dict[str, Slot] = field(default_factory=dict)  # destination per output
