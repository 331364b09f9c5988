"""Atomic renames of finished files and directories that survive a power cut.

A rename alone survives the death of the process. After a power cut the new name may exist without its bytes, or not
exist at all, unless fsync is called on the file before the rename and on its directory after it.
"""

from __future__ import annotations

import errno
import os
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


def replace_folder(partial: Path, folder: Path) -> None:
    """Replace an old folder with the finished one; restore the old one if a step fails. Raises ``OSError``."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        put_in_place(partial, folder)
    except OSError:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
