"""What a run captions: an item with an id to print and to remember, and a way to read it."""

from __future__ import annotations

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
"""Of one image inside an archive. An uncompressed image of the most pixels that are read is smaller."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image to caption; ``open_image`` and all that takes an image take it.

    ``id`` is what was named or found, different for every item of a run and the same in the next one: the path,
    ``archive.zip!/inner/name.jpg``, the URL, ``clip.mp4#t=12.4``. It is text that may hold anything a file name may;
    bytes that are not UTF-8 are kept by surrogate escapes. ``path`` is the image's own file, beside which a caption
    can be written; None for an image inside another file or on another machine. ``problem`` is the sentence that says
    why there is nothing to read, where that is known before reading; else empty.

    ``read`` gives what ``open_image`` takes and is called in the thread that decodes. Raises ``ImageError``.
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
        """What gave no image. ``problem`` is the whole sentence, the name in it."""
        return cls(id=name, read=partial(_refuse, problem), problem=problem)


class Refused(Exception):
    """Why an image is refused; whoever knows its name puts it before the reason."""


def refusal(name: str | os.PathLike[str], reason: object) -> str:
    """The sentence of a message."""
    return f"cannot read {shown(name)}: {reason}"


def system_reason(error: OSError) -> str:
    return "permission denied" if isinstance(error, PermissionError) else (error.strerror or str(error)).lower()


def too_large(size: int) -> Refused:
    return Refused(f"its {size / 1e6:,.0f} MB are more than an image has")


def span(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return a part of a file, within the limit of an image. Raises ``Refused``."""
    if size > MAX_BYTES:
        raise too_large(size)
    file.seek(0, os.SEEK_END)
    there = max(0, file.tell() - offset)  # room is made for all that is asked for, whether it is there or not
    file.seek(offset)
    return file.read(min(size, there))


def open_file(path: str | os.PathLike[str], *, most: int | None = None) -> BinaryIO:
    """Open a file that is one, of ``most`` bytes, to be read. Raises ``Refused``, and what ``open`` raises."""
    try:
        status = os.stat(path)
        # Looked at before it is opened: opening a pipe nobody writes to would wait for ever.
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
        raise Refused("this cannot be the name of a file") from None


def _itself(path: Path) -> Path:
    return path


def _refuse(problem: str) -> Path:
    raise ImageError(problem)
