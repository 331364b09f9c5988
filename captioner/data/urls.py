"""Images behind http(s) addresses, within limits: of bytes, of time whatever the server does, and of redirects."""

from __future__ import annotations

import http.client
import re
import socket
import string
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from captioner.data.connections import Reach, Route, handlers
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


def of_url(url: str, *, reach: Reach = "named", timeout: float = TIMEOUT) -> Item:
    """Return the image behind a URL, which is fetched when it is read.

    A URL out of a list that others wrote is given the ``reach`` of ``public``.
    """
    return Item(id=url, read=partial(fetch, url, reach=reach, timeout=timeout))


def fetch(url: str, *, max_bytes: int = MAX_DOWNLOAD, timeout: float = TIMEOUT, reach: Reach = "named") -> bytes:
    """Return the bytes behind a URL. Proxies are those of the environment. Raises ``ImageError`` with one sentence.

    What the server calls text, a page, a film or a sound is refused before it is read. ``timeout`` is for all of it,
    from the look-up of the server's name to the last byte.
    """
    route = Route(reach, timeout)
    try:
        headers = {"User-Agent": f"captioner/{__version__}", "Accept": "image/*,*/*;q=0.5"}
        request = urllib.request.Request(_ascii(url), headers=headers)
        opener = urllib.request.build_opener(_Redirects, *handlers(route))
        with opener.open(request, timeout=timeout) as response:
            return _body(response, max_bytes)
    except Exception as error:  # urllib and http.client raise whatever a server makes them stumble over
        late = time.monotonic() >= route.end or isinstance(getattr(error, "reason", error), TimeoutError)
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


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else all of its body would be read
        if not is_url(newurl):
            raise Refused(_ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
