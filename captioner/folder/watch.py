"""Watching folders for new photos by polling, with a delay for files that are still being written.

Polling also works on network file systems, which send no events.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from captioner.folder.entry import Photo

INTERVAL = 2.0  # seconds between two walks, and since the last change of a file
TICK = 0.2  # seconds between two looks at ``stopped``
SHARE = 10  # walks of a large tree take at most 1 / SHARE of the time

Look = tuple[int, ...]


class Watch:
    """A poller of folders: ``rounds`` yields the photos of each walk; ``failed`` excludes a photo until it changes.

    Once ``stopped`` is true, a walk yields no more photos, and the rounds end.
    """

    def __init__(
        self,
        walk: Callable[[], Iterable[Photo]],
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], object] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._walk, self._interval, self._sleep, self._stopped = walk, interval, sleep, stopped
        self._failed: dict[str, Look] = {}
        self._walked = 0.0  # seconds of the walk, without the time to caption its photos

    def rounds(self) -> Iterator[Iterator[Photo]]:
        while not self._stopped():
            self._walked = 0.0
            yield self._ready()
            self._rest(max(self._interval, SHARE * self._walked))

    def failed(self, photo: Photo) -> None:
        """Exclude a failed photo until its file changes."""
        self._failed[photo.key] = _file_stamp(photo) or ()

    def _rest(self, seconds: float) -> None:
        """Sleep in short parts, since a signal does not end one."""
        while seconds > 0 and not self._stopped():
            self._sleep(min(seconds, TICK))
            seconds -= TICK

    def _ready(self) -> Iterator[Photo]:
        walk = iter(self._walk())
        while not self._stopped():
            start = time.monotonic()
            photo = next((photo for photo in walk if self._wanted(photo)), None)
            self._walked += time.monotonic() - start
            if photo is None:
                return
            yield photo

    def _wanted(self, photo: Photo) -> bool:
        look = _file_stamp(photo)
        if photo.key in self._failed and self._failed[photo.key] == (look or ()):
            return False
        if photo.problem:  # but not for an empty folder, where photos may arrive
            return not os.path.isdir(photo.id) or not os.access(photo.id, os.R_OK | os.X_OK)
        return photo.path is None or (look is not None and not self._may_be_incomplete(photo.path))

    def _may_be_incomplete(self, path: os.PathLike[str]) -> bool:
        """Return whether a file may be incomplete; programs may set the modification time before the end of a copy."""
        try:
            status = os.stat(path)
        except OSError:
            return True
        return abs(time.time() - max(status.st_mtime, status.st_ctime)) < self._interval


def _file_stamp(photo: Photo) -> Look | None:
    """Return size, modification time and change time of a photo's file; None if it is missing."""
    try:
        status = os.stat(photo.id if photo.path is None else photo.path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
