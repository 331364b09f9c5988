"""Photos for the page: JPEGs of bounded size, a few at a time, the last ones kept in memory."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from typing import Literal

from captioner.data.images import open_image
from captioner.folder.entry import Photo

Size = Literal["thumb", "photo"]
SIDES: dict[Size, int] = {"thumb": 320, "photo": 1280}  # pixels of the longer side
_KEPT = 64 << 20  # bytes of pictures in memory
_TOGETHER = 2  # photos that are decoded at the same time: a large one takes over a gigabyte


class Thumbnails:
    """Small copies of photos; threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Size, int], bytes] = OrderedDict()
        self._size = 0
        self._mutex = threading.Lock()
        self._turns = threading.BoundedSemaphore(_TOGETHER)

    def of(self, photo: Photo, size: Size) -> bytes:
        """Return a JPEG without metadata. Raises ``ImageError`` for a photo that cannot be read."""
        key = photo.key, size, _changed(photo)
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._turns:
            data = _jpeg(photo, SIDES[size])
        with self._mutex:
            if key not in self._kept:
                self._kept[key] = data
                self._size += len(data)
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return data


def _jpeg(photo: Photo, side: int) -> bytes:
    image = open_image(photo.source, min_side=side)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def _changed(photo: Photo) -> int:
    try:
        return os.stat(str(photo.path)).st_mtime_ns
    except OSError:
        return 0
