"""Tasks of the model, and its replies: plain values that cross to the model's process and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from captioner.captioning.records import spoken
from captioner.errors import CaptionerError

Record: TypeAlias = dict[str, Any]
"""The result for one photo: ``caption`` with its details, ``similarity`` to a query, or ``error``."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """The bytes of one image, and its name in messages."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A photo that the server did not get, and the reason as one sentence."""

    name: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work on a photo. Photos with equal tasks are captioned together."""

    options: str = "{}"  # generation options as JSON with sorted keys
    count: int = 1
    vectors: Literal["embeddings", "features"] | None = None
    score: tuple[str, ...] = ()  # captions to score too
    explain: bool = False
    query: str | None = None  # only compare the photo with this text
    width: int = field(default=1, compare=False)  # work per photo, in captions that a search holds

    @classmethod
    def of(cls, options: Mapping[str, Any], **settings: Any) -> Task:
        """Return the task with generation options by name."""
        return cls(options=json.dumps(options, sort_keys=True), **settings)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The results of a batch, the seconds of each stage, and the resident bytes of the model's process."""

    records: list[Record]
    seconds: dict[str, float] = field(default_factory=dict)
    memory: int = 0


@dataclass(frozen=True, kw_only=True)
class About:
    """The facts about a model that its doors need."""

    generation: dict[str, Any]  # its own ``GenerationConfig`` as a dict
    labels: bool  # it names what a photo shows
    search: bool  # it compares photos with texts


def said(record: Record) -> str:
    """Return the caption of a record for a protocol of texts, with a word of warning if it is unsure."""
    return spoken(record["caption"], unsure="unsure" in record)


class Died(Exception):
    """The model's process ended, or did not answer in time, before it replied."""


def opened(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the model. Raises ``CaptionerError`` for a refusal, ``RuntimeError`` for a failure."""
    if "refused" in message:
        raise CaptionerError(message["refused"])
    if "failed" in message:
        raise RuntimeError(message["failed"])
    return message


class Unavailable(Died):
    """The model cannot be loaded again, at least not now."""


class Runner(Protocol):
    """A model that runs tasks, or several copies of it."""

    most: int
    """The most tasks that ever run at the same time."""

    @property
    def places(self) -> int:
        """The tasks that may run at the same time now."""

    def start(self) -> About:
        """Load the model, unless it is loaded. Raises ``CaptionerError``, and ``Died``."""

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        """Run a task; start the model if it is not loaded. ``patience`` in seconds.

        Raises ``CaptionerError`` for a task that the model cannot do, ``Died``, and ``Unavailable``.
        """

    def stop(self) -> None:
        """Remove the model from memory."""

    def end(self) -> None:
        """End for good, from another thread; a task that is running raises ``Died``."""
