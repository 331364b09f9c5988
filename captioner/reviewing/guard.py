"""The outermost layer of the page's server: it answers this page alone, and bounds bodies.

Other pages of the browser could reach a port of this machine. They do not know the random word in the address; a name
that an attacker's DNS leads here is refused by the Host header, and a request of another site by its Origin.
"""

from __future__ import annotations

import asyncio
import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from captioner.serving.guard import same_site, without_port

LARGEST = 64 << 20  # bytes of a body: a replacement in a hundred thousand captions
PATIENCE = 60.0  # seconds for a body
_HOSTS = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class TooLarge(Exception):
    """A body that is larger than ``LARGEST``."""


class TooSlow(Exception):
    """A body that did not arrive within ``PATIENCE``."""


class Guard:
    """Middleware that lets requests with the ``token`` as the first part of their path pass, without that part."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        rest = scope["path"][len(self._token) + 1 :]
        await self.app({**scope, "path": rest, "raw_path": rest.encode()}, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", "").lower(), request.headers.get("origin")
        if without_port(host) not in _HOSTS:
            return refusal(403, "this address does not lead here; use the one that captioner printed")
        if (origin is not None and not same_site(origin.lower(), host)) or request.headers.get(
            "sec-fetch-site", "none"
        ) not in ("none", "same-origin"):
            return refusal(403, "other pages may not use this server; open the address that captioner printed")
        given = request.scope["path"].partition("/")[2].partition("/")[0].encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            return refusal(403, "the address lacks its random word; open the address that captioner printed")
        if request.method == "POST":
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                return refusal(415, "send JSON as application/json")
            length = request.headers.get("content-length", "0")
            if not length.isdigit() or len(length) > 12 or int(length) > LARGEST:
                return refusal(413, f"send at most {LARGEST >> 20} MB at once")
        return None


async def body_of(request: Request) -> bytes:
    """Return the body. Raises ``TooLarge`` before it is all in memory, ``TooSlow`` for one that does not arrive."""
    try:
        return await asyncio.wait_for(_whole(request), PATIENCE)
    except asyncio.TimeoutError:
        raise TooSlow from None


async def _whole(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def refusal(status: int, why: str, **more: object) -> Response:
    """Return an error as JSON, with a sentence for the page to show."""
    return JSONResponse({"error": why, **more}, status, headers=dict(_HEADERS))


def answer(content: bytes, kind: str, *, cache: str = "no-store") -> Response:
    """Return a response with the headers of this server."""
    return Response(content, media_type=kind, headers={**_HEADERS, "Cache-Control": cache})
