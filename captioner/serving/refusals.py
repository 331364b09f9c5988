"""Refusals: the reasons why a request gets an error, each with its HTTP status."""

from __future__ import annotations

from typing import Literal

from starlette.exceptions import HTTPException

Kind = Literal["photo", "request", "key", "host", "path", "size", "busy", "late", "gone", "model"]
"""The kind of an error, for metrics and for the protocols that name it."""

_STATUS: dict[Kind, int] = {
    "photo": 400,
    "request": 400,
    "key": 401,
    "host": 403,
    "path": 404,
    "size": 413,
    "gone": 499,
    "model": 500,
    "busy": 503,
    "late": 504,
}
_KINDS: dict[int, Kind] = {405: "path", 408: "late", **{status: kind for kind, status in reversed(_STATUS.items())}}


class Refusal(HTTPException):
    """A request that gets an error; ``str`` is one sentence with the problem and the remedy.

    ``retry_after``: seconds after which the same request may succeed. ``ends``: close the connection, since the rest of
    the body is not read.
    """

    def __init__(
        self, kind: Kind, message: str, *, status: int = 0, retry_after: int | None = None, ends: bool = False
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if ends:
            headers["Connection"] = "close"
        if kind == "key":
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status or _STATUS[kind], message, headers)
        self.kind: Kind = kind

    def __str__(self) -> str:
        return str(self.detail)


def refusal_of(error: HTTPException) -> Refusal:
    """Return an error of the web framework as a refusal."""
    if isinstance(error, Refusal):
        return error
    sentences = {
        404: "there is no such path; /docs lists the paths",
        405: "this path has no such method; /docs lists the methods",
    }
    kind = _KINDS.get(error.status_code, "request" if error.status_code < 500 else "model")
    refusal = Refusal(kind, sentences.get(error.status_code, str(error.detail)), status=error.status_code)
    refusal.headers = {**(refusal.headers or {}), **(error.headers or {})}
    return refusal
