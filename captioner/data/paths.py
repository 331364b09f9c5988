"""Finding image files by path, folder or pattern, in a stable order; listing folders and reading text files."""

from __future__ import annotations

import codecs
import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from captioner.data.kinds import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from captioner.data.kinds import is_archive_name as is_archive_name
from captioner.data.kinds import is_hidden
from captioner.data.kinds import is_image_name as is_image_name
from captioner.data.kinds import is_video_name as is_video_name
from captioner.data.leftout import LeftOut
from captioner.data.messages import shown as shown
from captioner.errors import DataError

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""Control codes that a terminal would execute, and their escapes."""
_PASSWORD = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s]*@", re.IGNORECASE)
_NUMBER = re.compile(r"0*([0-9]+)")
MAX_TEXT = 1 << 30
"""Size limit of a table that is read as a whole, in bytes."""
MAX_SIDECAR = 4 << 20
"""Size limit of the caption file of one image, in bytes."""
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Unreadable:
    """A path without an image."""

    path: Path
    reason: str  # error message, with the path


def find_images(paths: Iterable[str | os.PathLike[str]], left: LeftOut | None = None) -> Iterator[Path | Unreadable]:
    """Yield every image that ``paths`` match, lazily, each file once even with several symlinks to it.

    A named file is yielded whatever its suffix. A folder is walked recursively: its own images first, in natural order
    (``2.jpg`` before ``10.jpg``); hidden entries and folders of thumbnails or deleted files are skipped and counted in
    ``left``. A path that does not exist is tried as a pattern (``*.jpg``, ``photos/**/*.png``; ``**`` is any depth),
    whose files are treated as those of a folder, unless the pattern ends in a suffix. A path that cannot be read or
    has no images yields an ``Unreadable``. Bytes of names that are not UTF-8 are surrogate escapes.
    """
    walker = Walker(left=left or LeftOut())
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        yield from walker.visit(os.fsdecode(path))


def plain(text: str) -> str:
    """Return a text for a terminal, without control codes and without passwords of URLs; keep line breaks and tabs."""
    return _PASSWORD.sub(r"\1***@", text).translate(CONTROLS)


def read_text(path: Path, *, most: int = MAX_TEXT) -> str:
    """Return a text file of at most ``most`` bytes, decoded as in ``decoded``, with line ends as ``\\n``.

    Raises ``DataError``.
    """
    try:
        status = path.stat()
        if status.st_size > most:  # a sparse file takes no space on the disk, but all of its size in memory
            raise DataError(f"{shown(path)} is larger than the limit of {most / 1e6:,.0f} MB; split it")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise DataError(f"{shown(path)} is a pipe, socket or device; name a regular file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{shown(path)} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise DataError(f"{shown(path)} cannot be read: {reason}") from None
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{shown(path)}:{line} is not UTF-8 text; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes) -> str:
    """Decode UTF-8, or the encoding of the byte order mark. Raises ``UnicodeDecodeError``."""
    return data.decode(next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8"))


def natural_key(name: str) -> str:
    """Return a key that sorts numbers by value; a single string, since a folder may have a million keys."""
    return _NUMBER.sub(lambda match: f"\0{chr(len(match[1]))}{match[1]}", name.casefold())


def list_folder(folder: str, left: LeftOut | None = None) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the files and the subfolders, each in natural order. Raises ``OSError``.

    Hidden entries and folders of thumbnails or deleted files are left out and counted in ``left``, unless its
    ``everything`` is set.
    """
    left = left or LeftOut()
    files: list[os.DirEntry[str]] = []
    folders: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            inside = is_folder(entry)
            if left.takes(entry.path, folder=inside):
                (folders if inside else files).append(entry)
    for names in (files, folders):
        names.sort(key=lambda entry: (natural_key(entry.name), entry.name))
    return files, folders


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a symlink to one; False for a broken symlink."""
    try:
        return entry.is_dir()
    except OSError:  # a cycle of symlinks
        return False


def _unreadable(path: str, reason: str) -> Unreadable:
    return Unreadable(Path(path), f"cannot read {shown(path)}: {reason}")


@dataclass
class Walker:
    """A walk without duplicates.

    It remembers the real paths of folders, and only of those files that were named or reached by a symlink. Other files
    of a folder need no memory, even for a million photos.
    """

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    left: LeftOut = field(default_factory=LeftOut)

    def visit(self, path: str) -> Iterator[Path | Unreadable]:
        try:
            os.lstat(path)
        except FileNotFoundError:
            if has_magic(path):
                yield from self._pattern(path)
            else:
                yield _unreadable(path, "there is no such file or folder" if path else "the path is empty")
        except OSError as error:
            yield _unreadable(path, (error.strerror or str(error)).lower())
        except ValueError:  # a null character, a lone surrogate
            yield _unreadable(path, "this is not a valid file name")
        else:
            yield from self._folder(path) if os.path.isdir(path) else self._file(path, os.path.realpath(path))

    def _file(self, path: str, real: str) -> Iterator[Path]:
        folder, name = os.path.split(real)
        with_folder = folder in self.listed and is_image_name(name) and (self.left.everything or not is_hidden(name))
        if real not in self.files and not (with_folder and os.path.isfile(real)):
            self.files.add(real)
            yield Path(path)

    def _folder(self, top: str) -> Iterator[Path | Unreadable]:
        empty, other = True, ""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in self.folders:
                empty = False
                continue
            self.folders.add(real)
            try:
                files, folders = list_folder(folder, self.left)
            except OSError as error:
                empty = False
                yield _unreadable(folder, (error.strerror or str(error)).lower())
                continue
            self.listed.add(real)
            for entry in files:
                if is_image_name(entry.name):
                    empty = False
                    if entry.is_symlink():
                        yield from self._file(entry.path, os.path.realpath(entry.path))
                    elif not self.files or os.path.join(real, entry.name) not in self.files:
                        yield Path(entry.path)
                    continue
                self.left.see(entry.name)
                if empty and not other and (is_archive_name(entry.name) or is_video_name(entry.name)):
                    other = os.path.join(folder, "*" + os.path.splitext(entry.name)[1])
            waiting.extend(entry.path for entry in reversed(folders))
        if empty:
            hint = f"; name its other files: {shown(other)}" if other else ""
            yield _unreadable(top, f"the folder contains no images{hint}")

    def _pattern(self, pattern: str) -> Iterator[Path | Unreadable]:
        any_suffix = not has_magic(os.path.splitext(pattern)[1] or "*")
        empty = True
        reported: set[Path] = set()
        for match in matching(pattern, self.left):
            if isinstance(match, Unreadable):
                empty = False
                if match.path not in reported:
                    reported.add(match.path)
                    yield match
            elif os.path.isdir(match):
                empty = False
                yield from self._folder(match)
            elif any_suffix or is_image_name(match):
                empty = False
                yield from self._file(match, os.path.realpath(match))
            else:
                self.left.see(os.path.basename(match))
        if empty:
            yield _unreadable(pattern, "no image matches this pattern")


def has_magic(text: str) -> bool:
    """Return whether ``text`` may be a pattern."""
    return any(char in text for char in "*?[")


def matching(pattern: str, left: LeftOut | None = None) -> Iterator[str | Unreadable]:
    """Yield the files and folders that match, in natural order, and folders that cannot be listed."""
    drive, tail = os.path.splitdrive(pattern)
    parts = tail.replace(os.altsep or os.sep, os.sep).split(os.sep)
    return _expand(drive + os.sep if not parts[0] else drive, [part for part in parts if part], left or LeftOut())


def _expand(base: str, parts: list[str], left: LeftOut) -> Iterator[str | Unreadable]:
    """Yield matching files and folders. The glob module would follow cycles of symlinks in ``**``."""
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        if rest and rest[0] == "**":
            yield from _expand(base, rest, left)
            return
        for folder in _sub_folders(base, left) if rest else [base or os.curdir]:
            yield from _expand(folder, rest, left) if isinstance(folder, str) else [folder]
    elif not has_magic(head) or os.path.lexists(os.path.join(base, head)):
        if os.path.lexists(os.path.join(base, head)):
            yield from _expand(os.path.join(base, head), rest, left)
    else:
        try:
            entries = sorted(os.scandir(base or os.curdir), key=lambda entry: (natural_key(entry.name), entry.name))
        except OSError as error:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                yield _unreadable(base, (error.strerror or str(error)).lower())
            return
        for entry in entries:
            inside = is_folder(entry)
            if fnmatch.fnmatch(entry.name, head) and (not rest or inside):
                explicit = head[0] == entry.name[0]  # ".*" and "@ea*" include entries that "*" leaves out
                if explicit or left.takes(entry.path, folder=inside):
                    yield from _expand(os.path.join(base, entry.name), rest, left)


def _sub_folders(top: str, left: LeftOut) -> Iterator[str | Unreadable]:
    """Yield the folder and all visible folders below it, each once."""
    seen: set[str] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        try:
            folders = list_folder(folder or os.curdir, LeftOut(everything=True))[1]
        except OSError as error:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                yield _unreadable(folder, (error.strerror or str(error)).lower())
            continue
        taken = [entry for entry in folders if left.takes(entry.path, folder=True)]
        waiting.extend(os.path.join(folder, entry.name) for entry in reversed(taken))
