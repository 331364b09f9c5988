"""Connections of HTTP servers: bounded waits for clients, errors in JSON, and the socket that listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from captioner.errors import UsageError

BACKLOG = 2048
MOST = 16_384  # connections at once; further ones are closed
_LAST_CALL = 0.5  # seconds that an idle connection stays open when the server ends


class Connection(H11Protocol):
    """HTTP/1.1 with bounded waits: for a header, so that idle connections cannot use up the file descriptors, and for a
    client that does not read its answer, which holds memory.
    """

    header_time = 30.0
    reading_time = 30.0
    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _ending = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        self._await_header()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.reading_time, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waiting, self._unread):
            if timer is not None:
                timer.cancel()
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


def listen(host: str, port: int, remedy: str = "choose another --host or --port") -> socket.socket:
    """Return a socket that listens at an address. Raises ``UsageError`` with the ``remedy``."""
    try:
        if port > 65535:  # which some systems take modulo 65536
            raise OverflowError("a port is at most 65535")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # there it would let two servers share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen at {host}:{port}: {reason}; {remedy}") from None
    return listener


def more_files() -> None:
    """Raise this process's limit of open files to the most that it may have: each connection is one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
