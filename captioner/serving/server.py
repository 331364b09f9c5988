"""The server: uvicorn with bounded connections, and an end that answers what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from captioner.serving.app import application
from captioner.serving.connections import BACKLOG, Connection
from captioner.serving.service import Service

_KEEP_ALIVE = 15  # seconds that an idle connection stays open between two requests


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM and Ctrl-C answers what was accepted, within the time to drain."""

    def __init__(self, service: Service, ready: Callable[[], None] | None = None, **settings: Any) -> None:
        limits = service.settings.limits
        times = {"header_time": limits.header_time, "reading_time": limits.reading_time}
        config = uvicorn.Config(
            application(service),
            http=type("Bounded", (Connection,), times),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
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
