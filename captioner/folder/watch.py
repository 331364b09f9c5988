"""Photos as they arrive: the folders are walked again and again, and a file that is still being written is waited for.

Walking asks the file system alone, so it works on network disks too, where no events come.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from captioner.folder.entry import Photo

INTERVAL = 2.0  # seconds between two walks, and for which a file must have been left alone
SHARE = 10  # walks of a large tree take at most one part in so many of the time

Look = tuple[int, ...]


class Watch:
    """``rounds`` gives the photos of each walk, without end; ``failed`` says which not to give again as they are."""

    def __init__(
        self,
        walk: Callable[[], Iterable[Photo]],
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._walk, self._interval, self._sleep = walk, interval, sleep
        self._failed: dict[str, Look] = {}
        self._walked = 0.0  # seconds that the walk took, without what was done with its photos

    def rounds(self) -> Iterator[Iterator[Photo]]:
        while True:
            self._walked = 0.0
            yield self._ready()
            self._sleep(max(self._interval, SHARE * self._walked))

    def failed(self, photo: Photo) -> None:
        """It has been tried, and told."""
        self._failed[photo.key] = _look(photo) or ()

    def _ready(self) -> Iterator[Photo]:
        walk = iter(self._walk())
        while True:
            start = time.monotonic()
            photo = next((photo for photo in walk if self._wanted(photo)), None)
            self._walked += time.monotonic() - start
            if photo is None:
                return
            yield photo

    def _wanted(self, photo: Photo) -> bool:
        look = _look(photo)
        if photo.key in self._failed and self._failed[photo.key] == (look or ()):
            return False
        if photo.problem:  # but for an empty folder: photos will come
            return not os.path.isdir(photo.id) or not os.access(photo.id, os.R_OK | os.X_OK)
        return photo.path is None or (look is not None and not self._young(photo.path))

    def _young(self, path: os.PathLike[str]) -> bool:
        """Whether it may still be written. Programs that copy set the time of modification before they are done."""
        try:
            status = os.stat(path)
        except OSError:
            return True
        return abs(time.time() - max(status.st_mtime, status.st_ctime)) < self._interval


def _look(photo: Photo) -> Look | None:
    """What changes with a file; None where there is none."""
    try:
        status = os.stat(photo.id if photo.path is None else photo.path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
