"""The page's server on this machine alone, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from captioner.errors import UsageError
from captioner.reviewing.app import app_of
from captioner.reviewing.asking import Asked
from captioner.reviewing.shelf import Shelf

HOST = "127.0.0.1"


def serve(shelf: Shelf, asked: Asked, *, port: int, report: Callable[[str], None]) -> None:
    """Serve the page; ``report`` gets its address. Port 0 is a free one. Raises ``UsageError`` for a taken one."""
    token = secrets.token_urlsafe(24)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen(128)  # the address works as soon as it is reported
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"port {port} cannot be used ({reason.lower()}); give another --port, or none") from None
        config = uvicorn.Config(
            app_of(shelf, asked, token=token),
            log_level="error",
            lifespan="off",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        report(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        uvicorn.Server(config).run(sockets=[listening])
