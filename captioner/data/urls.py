"""Images behind http(s) addresses, within limits: of bytes, of time whatever the server does, and of redirects."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import string
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from captioner.data.items import Item, Refused, refusal
from captioner.errors import ImageError
from captioner.version import __version__

MAX_DOWNLOAD = 64 << 20
TIMEOUT = 30.0
"""Seconds for all of an image, until its last byte is there."""
MAX_REDIRECTS = 5

_ELSEWHERE = "it leads to an address that is not http or https"
_URL = re.compile(r"https?://", re.IGNORECASE)


def is_url(name: str) -> bool:
    return _URL.match(name) is not None


def of_url(url: str) -> Item:
    """The image behind a URL, which is fetched when it is read."""
    return Item(id=url, read=partial(fetch, url))


def fetch(url: str, *, max_bytes: int = MAX_DOWNLOAD, timeout: float = TIMEOUT) -> bytes:
    """The bytes behind a URL. Proxies are those of the environment. Raises ``ImageError`` with one sentence.

    What the server calls text, a page, a film or a sound is refused before it is read.
    """
    deadline = time.monotonic() + timeout
    try:
        headers = {"User-Agent": f"captioner/{__version__}", "Accept": "image/*,*/*;q=0.5"}
        request = urllib.request.Request(_ascii(url), headers=headers)
        with _cut_after(timeout) as connect:
            opener = urllib.request.build_opener(_Redirects, _Http(connect), _Https(connect))
            with opener.open(request, timeout=timeout) as response:
                data = _body(response, max_bytes)
        if time.monotonic() >= deadline:  # a connection that was cut looks like one that has ended
            raise TimeoutError
        return data
    except Exception as error:  # urllib and http.client raise whatever a server makes them stumble over
        late = time.monotonic() >= deadline or isinstance(getattr(error, "reason", error), TimeoutError)
        reason = f"the server took longer than {timeout:g} seconds" if late else _reason(error)
        raise ImageError(refusal(url, reason)) from None


def _body(response: Any, max_bytes: int) -> bytes:
    kind = response.headers.get_content_type()
    known = "Content-Type" in response.headers
    if known and (kind.partition("/")[0] in ("text", "video", "audio") or kind == "application/json"):
        raise Refused(f"the server sent {kind} instead of an image")
    length = response.length  # None where it is not announced
    data = bytearray()
    while len(data) <= max_bytes and (length or 0) <= max_bytes:
        part = response.read1(1 << 16)  # what has come, instead of waiting until there is so much
        if not part:
            break
        data += part
    else:
        raise Refused(f"it is larger than the {max_bytes / 1e6:.0f} MB that are fetched")
    if length is not None and len(data) < length:
        raise Refused("the connection broke off in the middle")
    if not data:
        raise Refused("it is empty")
    return bytes(data)


@contextlib.contextmanager
def _cut_after(seconds: float) -> Iterator[list[socket.socket]]:
    """Cut the sockets of the list after a time: the timeout of a socket begins anew with every byte it gets."""
    sockets: list[socket.socket] = []

    def cut() -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield sockets
    finally:
        timer.cancel()


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else all of its body would be read
        if not is_url(newurl):
            raise Refused(_ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _listed(connection: Any, sockets: list[socket.socket]) -> Any:
    """A class of connections that puts each one's socket on the list."""

    class Listed(connection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Listed


class _Http(urllib.request.HTTPHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self.connection = _listed(http.client.HTTPConnection, sockets)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self.connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self.connection = _listed(http.client.HTTPSConnection, sockets)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self.connection, req)


def _ascii(url: str) -> str:
    """A URL as people copy it, with spaces and letters of any language, as it goes over the wire."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    return quote(parts._replace(netloc=host).geturl(), safe=string.punctuation)


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, urllib.error.HTTPError):
        if "redirect" in str(error.msg).lower():
            allowed = "not allowed" not in str(error.msg)
            return f"it is redirected more than {MAX_REDIRECTS} times" if allowed else _ELSEWHERE
        return f"the server answered {error.code} {http.client.responses.get(error.code, '')}".rstrip()
    if isinstance(error, (http.client.InvalidURL, UnicodeError, ValueError)):
        return "this cannot be an address"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return "its server is not known; check the address and the network"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return f"the connection failed ({' '.join(text.split()).lower()})"
