"""The protocols that clients speak: one module each, which only translates between them and the service."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["own", "openai", "ollama", "photoprism", "huggingface", "a1111"]

_PREFIXES: tuple[tuple[str, Protocol], ...] = (
    ("/v1/", "openai"),
    ("/api/v1/vision", "photoprism"),
    ("/api/", "ollama"),
    ("/models/", "huggingface"),
    ("/sdapi/", "a1111"),
)
_QUIET = ("/livez", "/readyz", "/metrics")


def protocol_of(path: str) -> Protocol | None:
    """Return the protocol of a path; None for the server's own state, which is not counted among requests."""
    if path in _QUIET:
        return None
    return next((name for prefix, name in _PREFIXES if path.startswith(prefix)), "own")
