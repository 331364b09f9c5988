"""The lock that allows one run at a time in a folder; the system releases it when the process dies."""

from __future__ import annotations

import contextlib
import os

from filelock import FileLock, Timeout

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.atomic import refused
from captioner.folder.own import refuse_foreign


class Held(OutputError):
    """The error for a folder that another run is writing to."""


class Lock:
    """A lock, held from construction to ``release``.

    Raises ``Held`` if another run holds it, ``OutputError`` if the file cannot be created.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        refuse_foreign(path, "a lock")
        self._lock = FileLock(path)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise Held(
                f"another run is writing to {shown(os.path.dirname(path))}; wait for it to end, or write elsewhere "
                "with --out DIR"
            ) from None
        except OSError as error:
            raise refused(path, error) from error

    def release(self) -> None:
        """Release the lock and remove its file; removed while held, so that a waiting process notices."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self._lock.release()
