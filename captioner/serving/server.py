"""The server: uvicorn with bounded waiting for headers, errors in JSON, and an end that answers what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from captioner.errors import UsageError
from captioner.serving.app import application
from captioner.serving.service import Service

_KEEP_ALIVE = 15  # seconds that an idle connection stays open between two requests
_LAST_CALL = 0.5  # seconds that an idle connection stays open when the server ends
_BACKLOG = 2048


class _Protocol(H11Protocol):
    """HTTP/1.1 whose headers must arrive in time, so that idle connections cannot use up the file descriptors."""

    header_time = 30.0
    _waiting: asyncio.TimerHandle | None = None
    _ending = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_header()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        body = b'{"error":"%s"}' % msg.encode("ascii", "replace").replace(b'"', b"'")
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        with contextlib.suppress(h11.LocalProtocolError):
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """End after the request in progress, or after the one that a client may just be sending."""
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LAST_CALL, self._give_up)
        else:
            self._close_after()

    def handle_events(self) -> None:
        super().handle_events()
        if self._ending:
            self._close_after()

    def _close_after(self) -> None:
        """Close the connection after the request in progress, and say so in its answer."""
        if self.cycle is not None and self.cycle.keep_alive:
            self.cycle.keep_alive = False
            self.cycle.scope["headers"] = [*self.cycle.scope["headers"], CLOSE_HEADER]  # which uvicorn repeats

    def _await_header(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(self.header_time, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM and Ctrl-C answers what was accepted, within the time to drain."""

    def __init__(self, service: Service, ready: Callable[[], None] | None = None, **settings: Any) -> None:
        limits = service.settings.limits
        protocol = type("Protocol", (_Protocol,), {"header_time": limits.header_time})
        config = uvicorn.Config(
            application(service),
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=0.9 * limits.drain,  # type: ignore[arg-type]  # it takes fractions too
            **settings,
        )
        super().__init__(config)
        self.service, self._ready = service, ready
        service.failed = partial(setattr, self, "should_exit", True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted; what is not answered after most of the time gets status 503."""
        self.service.stopping = True
        refusing = 0.8 * self.service.settings.limits.drain
        timer = asyncio.get_running_loop().call_later(refusing, self.service.batches.refuse)
        await super().shutdown(sockets)
        timer.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals, without raising them again at the end: a drained server has ended well."""
        before: dict[int, Any] = {}
        with contextlib.suppress(ValueError):  # not in the main thread
            for signum in (signal.SIGINT, signal.SIGTERM):
                before[signum] = signal.signal(signum, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address. Raises ``UsageError``."""
    try:
        if port > 65535:  # which some systems take modulo 65536
            raise OverflowError("a port is at most 65535")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # there it would let two servers share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen at {host}:{port}: {reason}; choose another --host or --port") from None
    return listener


def more_files() -> None:
    """Raise this process's limit of open files to the most that it may have: each connection is one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
