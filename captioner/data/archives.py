"""The images inside a zip or a tar, read where they lie: nothing is unpacked to disk, and memory holds a few of them.

A member of a zip, or of a tar without compression, is read when its turn comes, by the thread that decodes it. A
compressed tar can only be read in order, so its images wait as bytes and are limited to ``MAX_STREAMED`` each.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from captioner.data.items import MAX_BYTES, Item, Refused, open_file, refusal, system_reason
from captioner.data.paths import is_image_name
from captioner.data.sources.shards import expand
from captioner.data.tars import BOMB, MAX_STREAMED, StrictTar, is_bomb, unpacked
from captioner.errors import ImageError


def in_archive(path: Path) -> Iterator[Item]:
    """An item for every image in an archive, in its order; ``archive.zip!/inner/name.jpg`` is its id.

    Hidden members, and what macOS adds, are skipped, and an archive inside the archive is not looked into. A name that
    comes again is told apart by its number: ``a.jpg#2``. What is damaged is an item with a ``problem`` at its place.
    """
    count = 0
    try:
        with open_file(path) as file:
            for item in _zipped(path, file) if file.read(2) == b"PK" else _tarred(path, file):
                count += 1
                yield item
        if not count:
            yield Item.broken(os.fspath(path), refusal(path, "the archive holds no images"))
    except Exception as error:  # zipfile and tarfile raise nearly anything on a damaged file
        rest = f"; {count} images before that were found" if count else ""
        yield Item.broken(os.fspath(path) + ("!/" if count else ""), refusal(path, _reason(error) + rest))


def numbered(path: str) -> list[str]:
    """``train-{000..012}.tar`` as thirteen paths; any other name, and one that exists, as itself."""
    return [path] if "{" not in path or os.path.lexists(path) else [os.fspath(found) for found in expand(path)]


class Names:
    """The ids of an archive's images."""

    def __init__(self, archive: Path) -> None:
        self.archive = os.fspath(archive)
        self.seen: dict[str, int] = {}

    def wanted(self, name: str) -> bool:
        parts = [part for part in self._parts(name) if part != ".."]
        return is_image_name(name) and not any(part[0] == "." or part == "__MACOSX" for part in parts)

    def id(self, name: str) -> str:
        inner = "/".join(self._parts(name))
        number = self.seen[inner] = self.seen.get(inner, 0) + 1
        return f"{self.archive}!/{inner}{f'#{number}' if number > 1 else ''}"

    def _parts(self, name: str) -> list[str]:
        return [part for part in name.split("/") if part not in ("", ".")]


def _zipped(path: Path, file: IO[bytes]) -> Iterator[Item]:
    # Not closed here: its images are read later, from threads. It goes when the last of them has gone.
    archive = zipfile.ZipFile(open(path, "rb"))  # noqa: SIM115
    names = Names(path)
    for member in archive.infolist():
        if not names.wanted(member.filename):
            continue
        name = names.id(member.filename)
        problem = _zip_problem(member)
        if problem:
            yield Item.broken(name, refusal(name, problem))
        else:
            yield Item(id=name, read=partial(_unzip, archive, member, name))


def _zip_problem(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & 1:
        return "it is encrypted; unpack the archive with its password first"
    if member.file_size > MAX_BYTES:
        return f"its {member.file_size / 1e6:.0f} MB are more than an image has"
    if is_bomb(member.compress_size, member.file_size):
        return BOMB
    return ""


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    try:
        with archive.open(member) as file:
            return _by_parts(file)
    except Exception as error:
        raise ImageError(refusal(name, _reason(error))) from None


def _by_parts(file: IO[bytes]) -> bytes:
    """All of a member: one that unpacks to more than it says is noticed on the way, not when it is in memory."""
    return b"".join(iter(partial(file.read, 1 << 20), b""))


def _tarred(path: Path, file: IO[bytes]) -> Iterator[Item]:
    names = Names(path)
    file.seek(0)
    plain, packed = unpacked(file)
    with StrictTar.over(plain) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # else every header is kept
            if not member.isreg() or member.issparse() or not names.wanted(member.name):
                continue
            name = names.id(member.name)
            most = MAX_STREAMED if packed else MAX_BYTES
            if member.size > most:
                problem = f"its {member.size / 1e6:.0f} MB are more than the {most / 1e6:.0f} that are read"
                yield Item.broken(name, refusal(name, problem))
            elif packed:
                yield Item(id=name, read=partial(bytes, _by_parts(cast(IO[bytes], tar.extractfile(member)))))
            else:
                yield Item(id=name, read=partial(read_span, path, member.offset_data, member.size, name))


def read_span(path: Path, offset: int, size: int, name: str) -> bytes:
    """The bytes of an image that lies inside a file. Raises ``ImageError`` where they cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise ImageError(refusal(name, system_reason(error))) from None


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, NotImplementedError):
        return "it is compressed in a way that this Python cannot read; unpack the archive first"
    if isinstance(error, OSError) and error.strerror:
        return system_reason(error)
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"the archive is damaged or cut off ({detail})"
