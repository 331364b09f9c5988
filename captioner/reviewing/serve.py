"""The page's server on this machine alone, until Ctrl-C."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import uvicorn

from captioner.reviewing.app import app_of
from captioner.reviewing.asking import Asked
from captioner.reviewing.shelf import Shelf
from captioner.serving.connections import Connection, listen

HOST = "127.0.0.1"


def serve(shelf: Shelf, asked: Asked, *, port: int, report: Callable[[str], None]) -> None:
    """Serve the page; ``report`` gets its address. Port 0 is a free one. Raises ``UsageError`` for a taken one."""
    token = secrets.token_urlsafe(24)
    with listen(HOST, port, "give another --port, or none") as listening:  # the address works once it is reported
        config = uvicorn.Config(
            app_of(shelf, asked, token=token),
            http=Connection,
            log_level="error",
            lifespan="off",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        report(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        uvicorn.Server(config).run(sockets=[listening])
