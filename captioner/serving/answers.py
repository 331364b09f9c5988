"""Answers: JSON, the error of each protocol, and the sentence for a request that does not fit its schema."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from captioner.serving.metrics import Metrics
from captioner.serving.protocols import Protocol, protocol_of
from captioner.serving.refusals import Refusal, refusal_of

_log = logging.getLogger("captioner.serving")
_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Json(JSONResponse):
    """A JSON answer that can hold any text, also halves of surrogate pairs that a client sent."""

    def render(self, content: Any) -> bytes:
        try:
            return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _own(refusal: Refusal, request_id: str) -> dict[str, Any]:
    return {"error": str(refusal), "kind": refusal.kind}


def _openai(refusal: Refusal, request_id: str) -> dict[str, Any]:
    kind = "invalid_request_error" if refusal.status_code < 500 else "server_error"
    kind = _OPENAI_TYPES.get(refusal.status_code, kind)
    code = {"photo": "invalid_image", "busy": "server_busy", "late": "timeout", "key": "invalid_api_key"}
    return {
        "error": {"message": str(refusal), "type": kind, "param": None, "code": code.get(refusal.kind, refusal.kind)}
    }


def _photoprism(refusal: Refusal, request_id: str) -> dict[str, Any]:
    return {"id": request_id, "code": refusal.status_code, "error": str(refusal)}


def _message(refusal: Refusal, request_id: str) -> dict[str, Any]:
    return {"error": str(refusal)}


def _a1111(refusal: Refusal, request_id: str) -> dict[str, Any]:
    return {"error": "HTTPException", "detail": str(refusal), "body": "", "errors": str(refusal)}


_ERRORS: dict[Protocol, Callable[[Refusal, str], dict[str, Any]]] = {
    "own": _own,
    "openai": _openai,
    "ollama": _message,
    "photoprism": _photoprism,
    "huggingface": _message,
    "a1111": _a1111,
}


def error_of(path: str, refusal: Refusal, request_id: str = "") -> Json:
    """Return the error in the form of the path's protocol."""
    content = _ERRORS[protocol_of(path) or "own"](refusal, request_id)
    return Json(content, refusal.status_code, headers=dict(refusal.headers or {}))


class Errors:
    """The handlers of an application's errors, which it also counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def of_path(self, path: str, refusal: Refusal) -> Json:
        """Return the answer to a request that is not read."""
        self.metrics.error(refusal.kind)
        return error_of(path, refusal)

    async def raised(self, request: Request, error: Exception) -> Json:
        """Return the answer to an error of a handler."""
        if isinstance(error, RequestValidationError):
            refusal = Refusal("request", sentence(error.errors(), None))
        elif isinstance(error, HTTPException):
            refusal = refusal_of(error)
        else:
            _log.error("a request failed", exc_info=error)
            refusal = Refusal("model", "the server failed; its log has the reason")
        self.metrics.error(refusal.kind)
        return error_of(request.url.path, refusal, getattr(request.state, "id", ""))


def sentence(problems: Iterable[Mapping[str, Any]], model: type[BaseModel] | None) -> str:
    """Return the first problem that pydantic found, with the field's name."""
    problem = next(iter(problems))
    place = [str(part) for part in problem["loc"]]
    place = place[1:] if model is None else place  # the framework puts "body" before the field
    if problem["type"] == "extra_forbidden" and model is not None:
        near = difflib.get_close_matches(place[-1][:80], model.model_fields, n=1, cutoff=0)
        return f"unknown field {place[-1][:80]!r}; did you mean {near[0]}?"
    if problem["type"] in ("json_invalid", "bytes_type") or not place:
        return f"the body is not the JSON that this path reads: {problem['msg']}"
    return f"{'.'.join(place)[:200]}: {problem['msg']}"
