"""One run at a time in a folder, by a lock that the system lets go of when the process dies."""

from __future__ import annotations

import contextlib
import os

from filelock import FileLock, Timeout

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.folder.atomic import refused
from captioner.folder.own import refuse_foreign


class Lock:
    """Held from its making until ``release``. Raises ``OutputError`` where another run has it, or it cannot be kept."""

    def __init__(self, path: str) -> None:
        self.path = path
        refuse_foreign(path, "a lock")
        self._lock = FileLock(path)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"another run is writing into {shown(os.path.dirname(path))}; wait for it to end, or write elsewhere "
                "with --out DIR"
            ) from None
        except OSError as error:
            raise refused(path, error) from error

    def release(self) -> None:
        """Let go, and leave no file behind; it is removed while held, and who waited for it sees that it is gone."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self._lock.release()
