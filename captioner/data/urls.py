"""Downloads of images from http(s) URLs, with limits on bytes, total time and redirects."""

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
"""Seconds for the whole download of an image."""
MAX_REDIRECTS = 5

_ELSEWHERE = "it leads to an address that is not http or https"
_URL = re.compile(r"https?://", re.IGNORECASE)


def is_url(name: str) -> bool:
    return _URL.match(name) is not None


def of_url(url: str, *, reach: Reach = "named", timeout: float = TIMEOUT) -> Item:
    """Return the image at a URL as an item, which is downloaded when it is read.

    Use the ``reach`` ``public`` for a URL from a list that others wrote.
    """
    return Item(id=url, read=partial(fetch, url, reach=reach, timeout=timeout))


def fetch(url: str, *, max_bytes: int = MAX_DOWNLOAD, timeout: float = TIMEOUT, reach: Reach = "named") -> bytes:
    """Download the bytes at a URL, through the proxies of the environment. Raises ``ImageError``.

    A response that the server declares as text, JSON, video or audio is refused before it is read. ``timeout`` covers
    everything from resolving the host name to the last byte.
    """
    route = Route(reach, timeout)
    try:
        headers = {"User-Agent": f"captioner/{__version__}", "Accept": "image/*,*/*;q=0.5"}
        request = urllib.request.Request(_ascii(url), headers=headers)
        opener = urllib.request.build_opener(_Redirects, *handlers(route))
        with opener.open(request, timeout=timeout) as response:
            return _body(response, max_bytes)
    except Exception as error:  # urllib and http.client raise many classes for bad responses
        late = time.monotonic() >= route.end or isinstance(getattr(error, "reason", error), TimeoutError)
        reason = f"the server took longer than {timeout:g} seconds" if late else _reason(error)
        raise ImageError(refusal(url, reason)) from None


def _body(response: Any, max_bytes: int) -> bytes:
    kind = response.headers.get_content_type()
    known = "Content-Type" in response.headers
    if known and (kind.partition("/")[0] in ("text", "video", "audio") or kind == "application/json"):
        raise Refused(f"the server sent {kind} instead of an image")
    length = response.length  # None without Content-Length
    data = bytearray()
    while len(data) <= max_bytes and (length or 0) <= max_bytes:
        part = response.read1(1 << 16)  # the available bytes, without waiting for more
        if not part:
            break
        data += part
    else:
        raise Refused(f"it is larger than the limit of {max_bytes / 1e6:.0f} MB")
    if length is not None and len(data) < length:
        raise Refused("the connection was lost during the download")
    if not data:
        raise Refused("it is empty")
    return bytes(data)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # otherwise urllib would read the whole body
        if not is_url(newurl):
            raise Refused(_ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ascii(url: str) -> str:
    """Return a URL in ASCII: spaces and non-ASCII letters quoted, the host name in IDNA."""
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
        return "this is not a valid URL"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return "its host name cannot be resolved; check the URL and the network"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return f"the connection failed ({' '.join(text.split()).lower()})"
