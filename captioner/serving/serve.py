"""The run of a server from its start to its end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from captioner.serving.server import Server, listen, more_files
from captioner.serving.service import Service
from captioner.serving.settings import Settings
from captioner.serving.worker import Worker

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline


def serve(
    settings: Settings, loading: Callable[[], CaptionPipeline], host: str, port: int, report: Callable[[str], None]
) -> str | None:
    """Serve until a signal; return the reason if the model could not be loaded.

    ``report`` receives the address once it is open. Raises ``UsageError`` if it cannot be opened.
    """
    logging.basicConfig(stream=sys.stderr, format="captioner: %(levelname)s: %(message)s", level=logging.WARNING)
    listener = listen(host, port)
    more_files()
    worker = Worker(loading, settings.limits.pixels)
    service = Service(settings, worker)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    try:
        Server(service, lambda: report(url)).run(sockets=[listener])
    finally:
        worker.end()
        listener.close()
    return service.failure
