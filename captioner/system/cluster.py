"""A connection of this process to a Ray cluster. Ray is optional, so it is imported when it is used."""

from __future__ import annotations

import importlib
import logging
import socket
from typing import Any

from captioner.errors import MissingExtraError, UsageError, reason_of

REACHED = 10.0  # seconds in which an address must answer


def ray_module(name: str, purpose: str) -> Any:
    """Return the module ``name`` of Ray. Raises ``MissingExtraError`` without it, or without what it needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("ray", "ray", purpose) from error


def connect(address: str, purpose: str) -> None:
    """Connect to a Ray cluster: ``auto``, ``host:port``, or ``local`` to start one on this machine's cores.

    ``purpose``: what needs it, for messages. Raises ``MissingExtraError`` without Ray, ``UsageError`` if no cluster
    answers.
    """
    ray = ray_module("ray", purpose)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would retry for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED).close()
        if not ray.is_initialized():
            logging.getLogger("ray").setLevel(logging.WARNING)
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="warning")
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError ... depending on the address
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({reason_of(error)}); start one, or use local"
        ) from error
