"""The run of a server from its start to its end."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from captioner.serving.connections import listen, more_files
from captioner.serving.replicas import Replicas, Scale
from captioner.serving.server import Server
from captioner.serving.service import Service
from captioner.serving.settings import Settings
from captioner.serving.worker import Worker

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline


def serve(
    settings: Settings,
    loading: Callable[[], CaptionPipeline],
    host: str,
    port: int,
    report: Callable[[str], None],
    *,
    scale: Scale | None = None,
) -> str | None:
    """Serve until a signal; return the reason if the model could not be loaded.

    ``report`` receives the address once it is open. With ``scale`` the model runs on a Ray cluster. Raises
    ``UsageError`` if the address cannot be opened, or if no cluster answers.
    """
    logging.basicConfig(stream=sys.stderr, format="captioner: %(levelname)s: %(message)s", level=logging.WARNING)
    listener = listen(host, port)
    more_files()
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    runner: Worker | Replicas = Worker(loading, settings.limits.pixels)
    try:
        if scale is not None:
            name = f"captioner-{socket.gethostname()}-{listener.getsockname()[1]}"
            runner = Replicas(loading, settings.limits.pixels, scale, name)
            runner.connect()
        service = Service(settings, runner)
        Server(service, lambda: report(url)).run(sockets=[listener])
    finally:
        runner.end()
        listener.close()
    return service.failure
