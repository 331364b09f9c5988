"""HTTP(S) connections with a total timeout, restricted to allowed addresses, including redirects."""

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
"""The allowed addresses: only public ones; also this machine and private networks, if the URL itself names them and not
a redirect from a public address; or any."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Route:
    """The constraints of one download: its reach and its deadline."""

    def __init__(self, reach: Reach, seconds: float) -> None:
        self.reach, self.end = reach, time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until the deadline. Raises ``TimeoutError`` after it."""
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def connect(self, host_port: tuple[str, int], *, to_proxy: bool) -> socket.socket:
        """Connect to a checked address; resolving the name a second time could return another one."""
        addresses = _numeric(*host_port) or self._resolved(*host_port)
        if not to_proxy:  # the user chose the proxy
            addresses = self._allowed(host_port[0], addresses)
        problem: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.left() / (len(addresses) - number))
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
        """Check a host for a proxy; the proxy resolves names, so only numeric hosts and localhost can be refused."""
        addresses = _numeric(host, 80)
        if host.lower().rstrip(".").endswith("localhost"):
            addresses = _numeric("127.0.0.1", 80)
        self._allowed(host, addresses)
        self._passed(public=not addresses or all(_is_public(entry[4][0]) for entry in addresses))

    def _allowed(self, host: str, addresses: list[Any]) -> list[Any]:
        allowed = [entry for entry in addresses if self.reach != "public" or _is_public(entry[4][0])]
        if addresses and not allowed:
            raise Refused(
                f"it leads to this machine or a private network ({host}), which URLs from a list or redirect may not "
                "reach; allow them with --allow-private"
            )
        return allowed

    def _passed(self, *, public: bool) -> None:
        if self.reach == "named" and public:
            self.reach = "public"

    def _resolved(self, host: str, port: int) -> list[Any]:
        """Resolve a host name before the deadline, in a thread, since getaddrinfo has no timeout."""
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
        addresses: list[Any] = answer
        return addresses


def handlers(route: Route) -> Iterator[urllib.request.BaseHandler]:
    """Yield the handlers of urllib that connect through this route."""
    yield _Http(route)
    yield _Https(route)


def _numeric(host: str, port: int) -> list[Any]:
    """Return the addresses of a numeric host, in any notation that the system accepts; an empty list for a name."""
    with contextlib.suppress(OSError, UnicodeError):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    return []


def _is_public(address: str) -> bool:
    """Return whether an address is on the public internet; an embedded IPv4 address decides for its IPv6 address."""
    outer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(outer, ipaddress.IPv6Address):
        inner = outer.ipv4_mapped or outer.sixtofour or (outer.teredo or (None, None))[1]
        if inner is None and outer in _NAT64:
            inner = ipaddress.IPv4Address(int(outer) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if outer.is_site_local:
            return False
    return outer.is_global and not outer.is_multicast


class _Timed(io.RawIOBase):
    """A socket's input whose reads share one deadline; a socket's own timeout restarts with each read."""

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
    """The part of a socket's interface that ``HTTPResponse`` needs."""

    def __init__(self, sock: Any, route: Route) -> None:
        self.sock, self.route = sock, route

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self.sock, self.route))


def _response(route: Route, sock: Any, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Socket(sock, route), *arguments, **named)  # type: ignore[arg-type]


def _opened(route: Route, kind: Any, request: urllib.request.Request) -> Any:
    """Return a connection class for this request through this route."""
    host = urlsplit(request.full_url).hostname or ""
    to_proxy = urllib.request.Request(request.full_url).host != request.host
    if to_proxy:
        route.ask_proxy(host)

    class Connection(kind):  # type: ignore[misc]
        sock: Any

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.response_class = partial(_response, route)
            self._create_connection = lambda host_port, *_: route.connect(host_port, to_proxy=to_proxy)

        def connect(self) -> None:
            http.client.HTTPConnection.connect(self)  # includes the tunnel of a proxy
            if kind is http.client.HTTPSConnection:
                self.sock.settimeout(route.left())  # for the whole handshake
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
        urllib.request.AbstractHTTPHandler.__init__(self)  # HTTPSHandler's would load all certificates again
        self.route = route

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_opened(self.route, http.client.HTTPSConnection, req), req, context=_tls())


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return the TLS context, cached: loading the system's certificates takes a tenth of a second or more."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
