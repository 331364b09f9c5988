"""A photo under review as a person sees it, and a change to it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from captioner.data.decisions import State
from captioner.data.paths import CONTROLS
from captioner.data.sources.rows import clean
from captioner.folder.entry import Photo
from captioner.reviewing.tables import Said

DOUBTFUL = 0.6  # captions of a lower confidence are doubtful
_DROPPED = dict.fromkeys(CONTROLS, " ")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A photo as the page shows it."""

    id: str
    photo: Photo
    said: Said
    state: State
    kept: bool  # the captions are in a file that a save writes
    doubted: bool
    problem: str = ""  # why the caption cannot be changed here

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions."""
        return tuple(record.text for record in self.said)

    @property
    def version(self) -> str:
        """A name of these captions and this state, which changes with them."""
        return hashlib.sha256(json.dumps([self.state, self.texts]).encode()).hexdigest()[:16]

    @property
    def confidence(self) -> float | None:
        """The confidence of the first caption, if a table holds it."""
        figures = [record.confidence for record in self.said[:1]]
        return None if not figures or math.isnan(figures[0]) else figures[0]

    @property
    def doubtful(self) -> bool:
        """True for a caption of low confidence or from review.jsonl."""
        return self.doubted or (self.confidence is not None and self.confidence < DOUBTFUL)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change to a photo that a person saw as ``version``."""

    id: str
    version: str
    captions: tuple[str, ...]
    state: State


class Conflict(Exception):
    """Photos that changed since a person saw them, as they are now; nothing was saved."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        super().__init__(f"{len(seen)} captions changed meanwhile")
        self.seen = tuple(seen)


def lines_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return captions as they are saved: on one line each, without control codes and empty ones."""
    return tuple(text for text in (clean(text.translate(_DROPPED)) for text in texts) if text)
