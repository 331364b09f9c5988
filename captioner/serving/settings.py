"""Settings of a server, and the limits on what a client may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests; sizes in bytes, times in seconds."""

    batch: int = 32  # photos captioned together
    wait: float = 0.005  # for further photos, from the oldest one on
    queue: int = 256  # photos waiting
    photos: int = 32  # per request
    body: int = 64 * MIB  # of one request
    bodies: int = 512 * MIB  # of all requests in progress
    pixels: int = 200_000_000  # per photo
    timeout: float = 120.0  # from the complete request to its answer
    header_time: float = 30.0  # for the header of a request, and of an idle connection
    body_time: float = 60.0  # for the body of a request
    reading_time: float = 30.0  # for a client to read on in an answer
    drain: float = 30.0  # from SIGTERM to the end of the process
    beams: int = 16  # beams, candidates, captions per photo, rounds of refinement
    phrases: int = 64  # words to forbid or favour
    required: int = 4  # words to require, each of which doubles the states of the search
    text: int = 400  # characters of a prefix, phrase, query or caption to score
    downloads: int = 8  # at once

    def __post_init__(self) -> None:
        if self.photos > self.queue:
            raise UsageError(
                f"a request may hold {self.photos} photos, but only {self.queue} may wait; raise the queue, or lower "
                "the photos per request"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server."""

    model: str | None = None
    device: str | None = None
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    key: str = field(default="", repr=False)  # empty: anyone who reaches the port may use the server
    origins: tuple[str, ...] = ()  # of web pages that may use it; * for all
    hosts: tuple[str, ...] = ()  # further names of this server, for the check of the Host header
    allow_urls: bool = False
    root: str | None = None  # the folder whose photos may be named by path
    generation: Mapping[str, Any] = field(default_factory=dict)  # options of all captions, below those of a request
    idle: float = 0.0  # minutes without a request after which the model leaves memory; 0: never
    limits: Limits = field(default_factory=Limits)

    @property
    def sites(self) -> tuple[str, ...]:
        """The origins as browsers send them: in lower case, without a slash at the end."""
        return tuple(origin.lower().rstrip("/") for origin in self.origins)

    @property
    def name(self) -> str:
        """The model's name in answers: the last part of a path or hub id."""
        return (self.model or "captioner").rstrip("/\\").replace("\\", "/").rpartition("/")[2] or "captioner"
