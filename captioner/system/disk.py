"""Atomic renames of finished files and directories that survive a power cut.

A rename alone survives the death of the process. After a power cut the new name may exist without its bytes, or not
exist at all, unless fsync is called on the file before the rename and on its directory after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from pathlib import Path

WINDOWS = os.name == "nt"
_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # errors of file systems that cannot fsync a directory


def put_in_place(partial: str | os.PathLike[str], path: str | os.PathLike[str], *, forced: bool = False) -> None:
    """Rename a finished file or directory to ``path`` and flush it to the disk.

    ``forced``: its bytes are already flushed. Raises ``OSError``.
    """
    if not forced:
        _force(os.fspath(partial))
    _replace(partial, path)
    sync_folder(os.path.dirname(path))


def _replace(partial: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Rename a file. On Windows try for a second, since a virus scanner or an index may have either file open."""
    for pause in (0.05, 0.1, 0.2, 0.3, 0.4) if WINDOWS else ():
        try:
            return os.replace(partial, path)
        except PermissionError:
            time.sleep(pause)
    return os.replace(partial, path)


def partial_folder(folder: Path) -> Path:
    """Return a new hidden name beside ``folder``, to write its files there; remove what killed processes left so.

    Beside a symlink's target, since ``replace_folder`` replaces that.
    """
    folder = Path(os.path.realpath(folder))
    for left in _aside(folder, ".partial"):
        shutil.rmtree(left, ignore_errors=True)
    return _new_name(folder, ".partial")


def replace_folder(partial: Path, folder: Path) -> None:
    """Replace an old folder with the finished one; restore the old one if a step fails. Raises ``OSError``.

    A symlink stays, and the folder that it leads to is replaced. While the new folder takes the name, the old one has
    a hidden name beside it, by which ``set_aside`` finds it after a kill.
    """
    folder = Path(os.path.realpath(folder))
    old = _new_name(folder, ".old")
    if folder.exists():
        folder.rename(old)
    try:
        put_in_place(partial, folder)
    except BaseException:  # Ctrl-C too
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    for left in _aside(folder, ".old"):  # with those of killed processes, which were needed until now
        shutil.rmtree(left, ignore_errors=True)


def set_aside(folder: Path) -> Path | None:
    """Return the last folder that a killed ``replace_folder`` had renamed before the new one was in its place."""
    try:
        folder = Path(os.path.realpath(folder))
    except ValueError:  # no folder has a name with a null byte
        return None
    return None if os.path.exists(folder) else max(_aside(folder, ".old"), key=_changed, default=None)


def _new_name(folder: Path, end: str) -> Path:
    return folder.with_name(f".{folder.name}.captioner-{secrets.token_hex(4)}{end}")


def _aside(folder: Path, end: str) -> list[Path]:
    """Return the folders beside ``folder`` that have a name of ``_new_name``."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.captioner-[0-9a-f]{{8}}{re.escape(end)}")
    try:
        return [path for path in folder.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:  # there is no such folder, or it cannot be listed
        return []


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the entries of a directory to the disk, if the system supports it. Raises ``OSError``."""
    if WINDOWS:  # it cannot open a directory, and NTFS journals its entries
        return
    try:
        descriptor = os.open(os.fspath(folder) or os.curdir, os.O_RDONLY)
    except PermissionError:  # a directory that may be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(descriptor)


def _force(path: str) -> None:
    """Flush a file, or a whole directory tree, to the disk."""
    if not os.path.isdir(path):
        _force_file(path)
        return
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            _force_file(os.path.join(folder, name))
        sync_folder(folder)


def _force_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
