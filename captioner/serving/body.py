"""The outermost layer of the application: bodies bounded while they are read, and the measure of each request.

A body without Content-Length has no announced size, so bytes are counted as they arrive. All requests in progress share
one limit on their bodies and on the photos that they name by path or address, so that many cannot fill the memory.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captioner.serving.metrics import Metrics
from captioner.serving.protocols import protocol_of
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Limits

MARKS = (
    100_000  # commas, colons and opening brackets of a JSON body: each value in memory is 20 times as large as its text
)
_JSON = ("openai", "ollama", "photoprism", "a1111")
"""Protocols whose bodies are JSON, whatever a client calls them; `curl -d` and others call them forms."""


class Bodies:
    """Middleware that bounds bodies and measures requests."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.held = 0  # bytes of all requests in progress
        self.lock = threading.Lock()  # files are read in threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = Body(self, receive, dict(scope["headers"]).get(b"content-length", b""))
        scope.setdefault("state", {})["body"] = body
        begin, status = time.monotonic(), 499
        protocol = protocol_of(scope["path"])
        if protocol in _JSON:
            kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            scope["headers"] = [*kept, (b"content-type", b"application/json")]
        kind = content_type(Request(scope))
        body.is_json = kind == "application/json" or (protocol == "own" and not is_form(kind) and not is_image(kind))

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, body.receive, note)
        finally:
            body.release()
            if protocol is not None:
                self.metrics.request(protocol, status, time.monotonic() - begin)


class Body:
    """The body of one request, the other bytes that it holds, and its time."""

    def __init__(self, bodies: Bodies, receive: Receive, length: bytes) -> None:
        self._bodies, self._receive = bodies, receive
        self._announced = int(length) if length.isdigit() and len(length) < 19 else 0
        self._end = time.monotonic() + bodies.limits.body_time
        self._whole = False
        self._last = self._end  # the time when the answer is late; it begins again with the end of the body
        self._marks = 0
        self._size = 0
        self._released = False
        self.is_json = False
        self.held = 0

    @property
    def left(self) -> float:
        """The seconds until the answer is late."""
        return max(0.0, self._last - time.monotonic())

    def hold(self, size: int) -> None:
        """Count bytes that stay in memory until the answer. Raises ``Refusal`` if all requests hold too many."""
        with self._bodies.lock:
            if self._released:  # a thread may end after its request
                return
            self.held += size
            self._bodies.held += size
            is_full = self._bodies.held > self._bodies.limits.bodies
        if is_full:
            words = "server busy, please try again in 5 s: the images that wait are too large together"
            raise Refusal("busy", words, retry_after=5, ends=not self._whole)

    def release(self) -> None:
        """Forget all bytes of the request, which has its answer."""
        with self._bodies.lock:
            self._bodies.held -= self.held
            self._released = True

    async def receive(self) -> Message:
        """Return the next message. Raises ``Refusal``, which becomes the protocol's own error."""
        limits = self._bodies.limits
        if self._whole:
            return await self._receive()
        if self._announced > limits.body:
            raise self._too_large()
        try:
            left = max(0.0, self._end - time.monotonic())
            message: dict[str, Any] = dict(await asyncio.wait_for(self._receive(), left))
        except asyncio.TimeoutError:
            seconds = f"{limits.body_time:g} s"
            raise Refusal("late", f"the body did not arrive within {seconds}", status=408, ends=True) from None
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        self._last = time.monotonic() + limits.timeout
        self._size += len(message.get("body", b""))
        if self._size > limits.body:
            raise self._too_large()
        if self.is_json:
            self._marks += sum(map(message.get("body", b"").count, b",:[{"))
            if self._marks > MARKS:
                words = f"the JSON holds more than {MARKS:,} values; send fewer, or photos in a form or as they are"
                raise Refusal("size", words, ends=True)
        self.hold(len(message.get("body", b"")))
        return message

    def _too_large(self) -> Refusal:
        most = f"{self._bodies.limits.body / 1e6:.0f} MB"
        return Refusal("size", f"the body is larger than {most}; send fewer or smaller images", ends=True)


def body_of(request: Request) -> Body:
    """Return the body of a request."""
    body: Body = request.state.body
    return body


def content_type(request: Request) -> str:
    """Return the Content-Type of a request without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_form(kind: str) -> bool:
    """Return whether a body of this Content-Type, without parameters, is a form with files."""
    return kind == "multipart/form-data"


def is_image(kind: str) -> bool:
    """Return whether a body of this Content-Type, without parameters, is the bytes of an image."""
    return kind.startswith("image/") or kind == "application/octet-stream"
