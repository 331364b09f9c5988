"""What a run knows of one photo: where it is, what was said of it, and where that goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioner.data.images import ImageSource


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo to caption. ``id`` is what a person calls it, ``key`` what the journal does.

    ``path`` is its own file, None for one inside another file or on another machine. ``problem`` is the sentence for
    one that gave no image, else empty.
    """

    id: str
    key: str
    source: ImageSource
    path: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Slot:
    """Where a caption of a photo goes: its file (none for a row of a table), and the text that was there before."""

    file: str = ""
    old: str = ""


@dataclass(frozen=True)
class Said:
    """One caption with its figures, as ``captioner.pipelines.Caption`` has them; before the template."""

    text: str
    score: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A captioned photo: the captions, best first, and a slot for each output that is to have them.

    All that is written follows from it and the plan: writing it twice gives the same files.
    """

    id: str
    key: str
    said: tuple[Said, ...]
    slots: dict[str, Slot] = field(default_factory=dict)
