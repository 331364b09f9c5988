"""The lock that allows one training at a time in a folder; the system releases it when the process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from captioner.errors import CaptionerError, UsageError
from captioner.training.distributed import gather_objects

LOCK = "train.lock"
PATIENCE = 10.0  # seconds; the loaders of a killed run may hold its lock for some more seconds


@contextlib.contextmanager
def only_run(directory: Path, *, main: bool, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a run's folder, on the ``main`` process; the others wait for its answer.

    ``check`` looks into the locked folder, which a run that has just ended may have filled. A folder that cannot be
    locked (on some network file systems, or a read-only one) is not locked. Raises ``UsageError`` if another run holds
    the lock, and the ``CaptionerError`` of ``check``, on all processes.
    """
    lock = FileLock(directory / LOCK)
    answers = gather_objects(_refusal(lock, directory, check) if main else None)
    try:
        for refusal in filter(None, answers):
            raise refusal
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # removed while held, so that a waiting process notices
                (directory / LOCK).unlink()
            lock.release()


def _refusal(lock: FileLock, directory: Path, check: Callable[[], None]) -> CaptionerError | None:
    """Acquire the lock, and return the error of a folder that this run must not write to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        return UsageError(
            f"another training is writing to {directory}; wait for it to end, or choose another --out (if none is "
            f"running on any machine, delete {directory / LOCK})"
        )
    except (OSError, NotImplementedError):  # a run that cannot write here says so itself
        pass
    try:
        check()
    except CaptionerError as error:
        return error
    return None
