"""Renaming a finished file or folder into its place so that it survives a power cut: the one helper for all who do it.

A rename alone survives the death of the process. After a power cut the new name may be there with none of its bytes, or
not be there at all, unless the bytes are forced to the disk before the rename and the folder's entry after it.
"""

from __future__ import annotations

import errno
import os

_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # what file systems answer that cannot force a folder


def put_in_place(partial: str | os.PathLike[str], path: str | os.PathLike[str], *, forced: bool = False) -> None:
    """Rename a finished file, or a folder with all that is in it, to ``path``, on the disk when it returns.

    ``forced``: its bytes are on the disk already. Raises ``OSError``.
    """
    if not forced:
        _force(os.fspath(partial))
    os.replace(partial, path)
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Force the entries of a folder to the disk, where the system knows how to. Raises ``OSError``."""
    if os.name == "nt":  # a folder cannot be opened there, and its entries are kept in a journal anyway
        return
    try:
        descriptor = os.open(os.fspath(folder) or os.curdir, os.O_RDONLY)
    except PermissionError:  # a folder that may be written into and not be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(descriptor)


def _force(path: str) -> None:
    """Force a file, or all files and folders of a tree, to the disk."""
    if not os.path.isdir(path):
        _force_file(path)
        return
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            _force_file(os.path.join(folder, name))
        sync_folder(folder)


def _force_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
