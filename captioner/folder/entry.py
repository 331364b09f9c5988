"""Records of a run: a photo, its captions, and the outputs that receive them."""

from __future__ import annotations

from collections.abc import Iterable
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
    """A caption, before the template, with the figures and labels of ``captioner.Caption``."""

    text: str
    score: float
    confidence: float
    labels: tuple[tuple[str, float], ...] = ()  # with their probabilities, most probable first
    unsure: bool = False

    @staticmethod
    def of(
        text: str, score: float, confidence: float, labels: Iterable[tuple[str, float]] = (), unsure: bool = False
    ) -> CaptionRecord:
        """Return the record of values that were read from a file. Raises ``ValueError`` for invalid ones."""
        pairs = tuple((str(name), float(probability)) for name, probability in labels)
        return CaptionRecord(str(text), float(score), float(confidence), pairs, bool(unsure))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A captioned photo.

    The entry and the plan determine all that is written, so writing is idempotent.
    """

    id: str
    key: str
    captions: tuple[CaptionRecord, ...]  # best first
    slots: dict[str, Slot] = field(default_factory=dict)  # destination per output
