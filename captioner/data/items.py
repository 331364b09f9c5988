"""Items to caption: an id and a function to read the image."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from captioner.data.paths import shown
from captioner.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 1 << 30
"""Size limit of one image, in bytes. An uncompressed image of ``MAX_PIXELS`` is smaller."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image to caption; ``open_image`` and everything that accepts an image accepts it.

    id: Unique in a run and stable between runs: a path, ``archive.zip!/inner/name.jpg``, a URL, ``clip.mp4#t=12.4``.
        Bytes that are not UTF-8 are surrogate escapes.
    read: Return the input of ``open_image``; called in the thread that decodes. Raises ``ImageError``.
    path: The image's own file, which a caption file can be beside; None inside an archive or video, or at a URL.
    problem: Error message, if the image is known to be unreadable before ``read``; else empty.
    """

    id: str
    read: Callable[[], Path | bytes | Image.Image]
    path: Path | None = None
    problem: str = ""

    @classmethod
    def of_file(cls, path: Path) -> Item:
        return cls(id=os.fspath(path), read=partial(_itself, path), path=path)

    @classmethod
    def broken(cls, name: str, problem: str) -> Item:
        """Return an item without an image. ``problem`` is the whole message, with the name."""
        return cls(id=name, read=partial(_refuse, problem), problem=problem)


class Refused(Exception):
    """The reason why an image is refused; a caller that knows its name adds it."""


def refusal(name: str | os.PathLike[str], reason: object) -> str:
    """Return the error message for an image and a reason."""
    return f"cannot read {shown(name)}: {reason}"


def system_reason(error: OSError) -> str:
    return "permission denied" if isinstance(error, PermissionError) else (error.strerror or str(error)).lower()


def too_large(size: int) -> Refused:
    return Refused(f"its {size / 1e6:,.0f} MB exceed the limit for an image")


def span(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return a part of a file, up to the limit for an image. Raises ``Refused``."""
    if size > MAX_BYTES:
        raise too_large(size)
    file.seek(0, os.SEEK_END)
    available = max(0, file.tell() - offset)  # read() allocates the requested size even if the file is shorter
    file.seek(offset)
    return file.read(min(size, available))


def open_file(path: str | os.PathLike[str], *, most: int | None = None) -> BinaryIO:
    """Open a regular file of at most ``most`` bytes for reading. Raises ``Refused``, and the errors of ``open``."""
    try:
        status = os.stat(path)
        # Check before opening: opening a pipe without a writer would block.
        if stat.S_ISDIR(status.st_mode):
            raise Refused("it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is a pipe, socket or device, not a file")
        if status.st_size == 0:
            raise Refused("it is empty")
        if most is not None and status.st_size > most:
            raise too_large(status.st_size)
        return open(path, "rb")
    except FileNotFoundError:
        link = os.path.islink(path)
        raise Refused("it is a link to a file that does not exist" if link else "there is no such file") from None
    except ValueError:
        raise Refused("this is not a valid file name") from None


def digest_of(file: BinaryIO) -> bytes:
    """Return the SHA-256 of a file from its start, read in parts of a megabyte."""
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.digest()


def _itself(path: Path) -> Path:
    return path


def _refuse(problem: str) -> Path:
    raise ImageError(problem)
