"""Connections of http(s) that end in time and lead only where they may: to checked addresses, redirects included."""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, Literal
from urllib.parse import urlsplit

from captioner.data.items import Refused

Reach = Literal["public", "named", "private"]
"""Where an address may lead: only to public addresses; also to this machine or a private network where the URL itself
names them, but not by a redirect from outside; or anywhere."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Route:
    """The way of one fetch: where it may lead, and the time by which all of it must be over."""

    def __init__(self, reach: Reach, seconds: float) -> None:
        self.reach, self.end = reach, time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left. Raises ``TimeoutError`` when there are none."""
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def connect(self, place: tuple[str, int], *, to_proxy: bool) -> socket.socket:
        """Connect to an address that was checked: asking for the name again could give another one."""
        found = _numeric(*place) or self._looked_up(*place)
        if not to_proxy:  # a proxy is the choice of whoever runs this
            found = self._admitted(place[0], found)
        problem: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.left() / (len(found) - number))
                sock.connect(address)
                sock.settimeout(self.left())
            except OSError as error:
                sock.close()
                problem = error
                continue
            if not to_proxy:
                self._passed(public=_is_public(address[0]))
            return sock
        raise problem or OSError("the server has no address")

    def ask_proxy(self, host: str) -> None:
        """Check the name that a proxy is asked for; the proxy looks it up, so only what is plain can be refused."""
        known = _numeric(host, 80)
        if host.lower().rstrip(".").endswith("localhost"):
            known = _numeric("127.0.0.1", 80)
        self._admitted(host, known)
        self._passed(public=not known or all(_is_public(entry[4][0]) for entry in known))

    def _admitted(self, host: str, found: list[Any]) -> list[Any]:
        allowed = [entry for entry in found if self.reach != "public" or _is_public(entry[4][0])]
        if found and not allowed:
            raise Refused(
                f"it leads to this machine or a private network ({host}), where addresses from elsewhere may not lead; "
                "trust them with --allow-private"
            )
        return allowed

    def _passed(self, *, public: bool) -> None:
        if self.reach == "named" and public:
            self.reach = "public"

    def _looked_up(self, host: str, port: int) -> list[Any]:
        """Look a name up within the time: the system's own patience has no limit that could be set."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=look, daemon=True).start()
        try:
            answer = answers.get(timeout=self.left())
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        found: list[Any] = answer
        return found


def handlers(route: Route) -> Iterator[urllib.request.BaseHandler]:
    """Yield the handlers of urllib that connect by this route."""
    yield _Http(route)
    yield _Https(route)


def _numeric(host: str, port: int) -> list[Any]:
    """Return the addresses of a host that is written as one, in any spelling that the system knows; else none."""
    with contextlib.suppress(OSError, UnicodeError):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    return []


def _is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet; one that carries another in it is judged by that."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast


class _Timed(io.RawIOBase):
    """What a socket receives, where every read has only the time that is left: a timeout begins anew with each."""

    def __init__(self, sock: Any, route: Route) -> None:
        self.sock, self.route = sock, route
        self.raw = sock.makefile("rb", buffering=0)

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.route.left())
        count: int | None = self.raw.readinto(buffer)
        return count

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Socket:
    """All that a response wants of a socket."""

    def __init__(self, sock: Any, route: Route) -> None:
        self.sock, self.route = sock, route

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self.sock, self.route))


def _response(route: Route, sock: Any, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Socket(sock, route), *arguments, **named)  # type: ignore[arg-type]


def _opened(route: Route, kind: Any, request: urllib.request.Request) -> Any:
    """Return a class of connections for this request, by this route."""
    host = urlsplit(request.full_url).hostname or ""
    to_proxy = urllib.request.Request(request.full_url).host != request.host
    if to_proxy:
        route.ask_proxy(host)

    class Connection(kind):  # type: ignore[misc]
        sock: Any

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.response_class = partial(_response, route)
            self._create_connection = lambda place, *_: route.connect(place, to_proxy=to_proxy)

        def connect(self) -> None:
            http.client.HTTPConnection.connect(self)  # with the tunnel, where there is a proxy
            if kind is http.client.HTTPSConnection:
                self.sock.settimeout(route.left())  # for all of the handshake
                name = self._tunnel_host or self.host
                self.sock = self._context.wrap_socket(self.sock, server_hostname=name)
            self.sock.settimeout(route.left())

    return Connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, route: Route) -> None:
        super().__init__()
        self.route = route

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_opened(self.route, http.client.HTTPConnection, req), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, route: Route) -> None:
        urllib.request.AbstractHTTPHandler.__init__(self)  # its own would read all certificates once more
        self.route = route

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_opened(self.route, http.client.HTTPSConnection, req), req, context=_tls())


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return how servers prove who they are; reading the system's certificates takes a tenth of a second and more."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
