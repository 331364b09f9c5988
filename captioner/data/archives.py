"""Images inside zip and tar files, read in place: nothing is unpacked to disk, and memory holds a few images.

The thread that decodes an image reads it from the zip or uncompressed tar. A compressed tar can only be read in order,
so its images wait in memory as bytes, at most ``MAX_STREAMED`` each.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from captioner.data.items import MAX_BYTES, Item, Refused, open_file, refusal, span, system_reason
from captioner.data.leftout import LeftOut
from captioner.data.messages import agreeing, counted
from captioner.data.paths import is_image_name
from captioner.data.sources.shards import expand
from captioner.data.tars import MAX_STREAMED, Bounded, Damaged, Member, members, unpacked
from captioner.data.zips import listed, problem_of, unzip
from captioner.errors import ImageError

MAX_IMAGES = 4_000_000
"""The largest number of images in one archive."""


def in_archive(path: Path, left: LeftOut | None = None) -> Iterator[Item]:
    """Yield an item for every image in an archive, in its order, with an id such as ``archive.zip!/inner/name.jpg``.

    Hidden members, thumbnails and deleted files are left out and counted in ``left``, as in a folder. Archives inside
    the archive are skipped. A duplicate name gets a number: ``a.jpg#2``. A damaged member gives an item with a
    ``problem``.
    """
    count = 0
    names = Names(path, left or LeftOut())
    try:
        with open_file(path) as file:
            for item in _zipped(path, names) if file.read(2) == b"PK" else _tarred(path, file, names):
                count += 1
                yield item
        if not count:
            yield Item.broken(os.fspath(path), refusal(path, "the archive holds no images"))
    except Exception as error:  # zipfile raises nearly any exception on a damaged file
        rest = f"; {counted(count, 'image')} before that {agreeing(count, 'were')} found" if count else ""
        yield Item.broken(os.fspath(path) + ("!/" if count else ""), refusal(path, _reason(error) + rest))


def numbered(path: str) -> list[str]:
    """Return thirteen paths for ``train-{000..012}.tar``; any other name, or an existing path, as it is."""
    return [path] if "{" not in path or os.path.lexists(path) else [os.fspath(shard) for shard in expand(path)]


class Names:
    """The ids of an archive's images; all of them are kept in memory, so their number is limited."""

    def __init__(self, archive: Path, left: LeftOut) -> None:
        self.archive, self.left = os.fspath(archive), left
        self.seen: dict[str, int] = {}

    def wanted(self, name: str) -> bool:
        *folders, last = self._parts(name) or [""]
        if not is_image_name(name):
            self.left.see(last)
            return False
        whole = self.archive + "!"
        for folder in folders:
            whole = f"{whole}/{folder}"
            if not self.left.takes(whole, folder=True):
                return False
        return self.left.takes(last, folder=False)

    def id(self, name: str) -> str:
        inner = "/".join(self._parts(name))
        if len(self.seen) >= MAX_IMAGES:
            raise Refused(f"it holds more than {MAX_IMAGES:,} images; split it")
        number = self.seen[inner] = self.seen.get(inner, 0) + 1
        return f"{self.archive}!/{inner}{f'#{number}' if number > 1 else ''}"

    def _parts(self, name: str) -> list[str]:
        # Old programs of Windows separate folders by backslashes, which zip forbids. With "..", a member could have
        # the id of a photo beside the archive, and its caption would become that photo's.
        return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _zipped(path: Path, names: Names) -> Iterator[Item]:
    for member in listed(path):
        if not names.wanted(member.filename):
            continue
        name = names.id(member.filename)
        problem = problem_of(member)
        if problem:
            yield Item.broken(name, refusal(name, problem))
        else:
            yield Item(id=name, read=partial(_unzip, path, member, name))


def _unzip(path: Path, member: zipfile.ZipInfo, name: str) -> bytes:
    try:
        return unzip(path, member)
    except Exception as error:  # each compression has its own exceptions
        raise ImageError(refusal(name, _reason(error))) from None


def _tarred(path: Path, file: IO[bytes], names: Names) -> Iterator[Item]:
    file.seek(0)
    plain, packed = unpacked(file)
    for member in members(plain):
        if not names.wanted(member.name):
            continue
        name = names.id(member.name)
        most = MAX_STREAMED if packed else MAX_BYTES
        if member.size > most:
            problem = f"its {member.size / 1e6:.0f} MB exceed the limit of {most / 1e6:.0f} MB"
            yield Item.broken(name, refusal(name, problem))
        elif packed:
            yield Item(id=name, read=partial(bytes, _by_parts(plain, member)))
        else:
            yield Item(id=name, read=partial(read_span, path, member.offset, member.size, name))


def _by_parts(stream: IO[bytes] | Bounded, member: Member) -> bytes:
    """Return a member, read in parts so that ``Bounded`` can stop an archive bomb early."""
    stream.seek(member.offset)
    content = io.BytesIO()
    while (left := member.size - content.tell()) and (part := stream.read(min(left, 1 << 20))):
        content.write(part)
    if left:
        raise Damaged("unexpected end of data")
    return content.getvalue()


def read_span(path: Path, offset: int, size: int, name: str) -> bytes:
    """Return the bytes of an image inside a file. Raises ``ImageError`` if they cannot be read."""
    try:
        with path.open("rb") as file:
            return span(file, offset, size)
    except Refused as refused:
        raise ImageError(refusal(name, refused)) from None
    except OSError as error:
        raise ImageError(refusal(name, system_reason(error))) from None


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, NotImplementedError):
        return "this Python does not support its compression; unpack the archive first"
    if isinstance(error, OSError) and error.strerror:
        return system_reason(error)
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"the archive is damaged or truncated ({detail})"
