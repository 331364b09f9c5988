"""Checks before reading files in a folder of photos, which an untrusted person may have made.

A folder may come from an archive or another person. A symlink, a pipe or a file of 5 GB may have the name of a caption
file or of the journal.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from captioner.data.paths import shown
from captioner.errors import OutputError

LONGEST_TEXT = 1 << 20
"""Size limit of a caption file beside a photo, in bytes."""


def refuse_foreign(path: str, what: str) -> None:
    """Raise ``OutputError`` if ``path`` exists and is not a regular file of this user.

    A file with several hard links is refused too: writing to it would change the file of the other name.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        is_link = stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode)
        kind = "is a symlink or hard link" if is_link else "is not a regular file"
    elif hasattr(os, "geteuid") and status.st_uid != os.geteuid() and status.st_uid != _owner_here(path):
        kind = "belongs to another user"
    else:
        return
    raise OutputError(f"{shown(path)} cannot be {what}: it {kind}; remove it, or write elsewhere with --out DIR")


def refuse_irregular(path: str, most: int | None = None) -> None:
    """Raise ``OutputError`` for a pipe or device, or a file of more than ``most`` bytes; folders raise on opening."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        why = "it is a pipe, socket or device, not a file"
    elif most is not None and stat.S_ISREG(status.st_mode) and status.st_size > most:
        why = f"it is larger than the limit of {most / 1e6:,.0f} MB"
    else:
        return
    raise OutputError(f"cannot read {shown(path)}: {why}; move it away, or write elsewhere with --out DIR")


def read_small(path: str, most: int = LONGEST_TEXT) -> bytes:
    """Return the bytes of a regular file. Raises ``OSError``, and ``OutputError`` if it is larger or not regular."""
    refuse_irregular(path, most)
    with open(path, "rb") as file:
        return file.read(most)


def _owner_here(path: str) -> int | None:
    """Return the owner of new files beside ``path``: network file systems may give all files the same owner."""
    probe = os.path.join(os.path.dirname(path), f".captioner-{secrets.token_hex(4)}.probe")
    with contextlib.suppress(OSError):
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
            os.unlink(probe)
    return None
