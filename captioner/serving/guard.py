"""The check of who asks: the key, the Host header and the Origin header.

A server on this machine has one more enemy than a server elsewhere: the pages in this machine's browser.

- A page of another site can send requests here, but a browser adds an Origin header to them, which must be of this
  server or of ``--cors``.
- A page whose own name was pointed at 127.0.0.1 (DNS rebinding) is of the same origin for the browser, but its name is
  in the Host header. Without a key only such names pass as no stranger can register: addresses, localhost, names
  without a dot or below .local, .internal, .localhost or .home.arpa, and those of ``--allow-host``. With a key the page
  would have to know it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from captioner.serving.refusals import Refusal
from captioner.serving.settings import Settings

OPEN = ("/livez", "/readyz")
"""Paths without a key."""
LINGER, LITTLE = 1.0, 65_536  # seconds and bytes of a refused request's body that are read
_PRIVATE = (".localhost", ".local", ".internal", ".home.arpa")


class Guard:
    """The check of one server."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.key.encode()
        self._hosts = {host.lower() for host in settings.hosts}
        self._origins = set(settings.sites)

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise ``Refusal`` for a request that must not pass."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if not self._key and not self._is_ours(host):
            remedy = "start it with --allow-host NAME, or with a key"
            raise Refusal("host", f"this server does not answer to the name {host[:80]!r}; {remedy}", ends=True)
        if origin and not self._origins & {origin, "*"} and not same_site(origin, host):
            words = "pages of another site may not use this server; start it with --cors ORIGIN"
            raise Refusal("host", words, ends=True)
        if self._key and path not in OPEN and not self._knows_key(headers):
            words = "the key is missing or wrong; send it as 'Authorization: Bearer KEY'"
            raise Refusal("key", words, ends=True)

    def _knows_key(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").strip().partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key)

    def _is_ours(self, host: str) -> bool:
        name = without_port(host)
        if not name or "." not in name or name in self._hosts or name.endswith(_PRIVATE):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Guarded:
    """Middleware that checks a request before its body is read; ``answer`` makes the error of the path's protocol."""

    def __init__(self, app: ASGIApp, guard: Guard, answer: Callable[[str, Refusal], ASGIApp]) -> None:
        self.app, self.guard, self.answer = app, guard, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            try:
                self.guard.check(scope["path"], dict(scope["headers"]))
            except Refusal as refusal:
                app = self.answer(scope["path"], refusal)
                with contextlib.suppress(asyncio.TimeoutError, Refusal):
                    await asyncio.wait_for(_read_little(receive), LINGER)
        await app(scope, receive, send)


async def _read_little(receive: Receive) -> None:
    """Read a small body: a connection that is closed while one arrives is reset, and its answer may be lost."""
    size = 0
    while size < LITTLE:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        size += len(message.get("body", b""))


def without_port(host: str) -> str:
    """Return the name in a Host header."""
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.rpartition(":")[0] if ":" in host else host


def same_site(origin: str, host: str) -> bool:
    """Return whether an Origin header is of the site in the Host header; both in lower case."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # no address, such as http://[x
        return False
