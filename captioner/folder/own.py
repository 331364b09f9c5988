"""Reading back what lies in a folder of photos, which whoever made the folder may have put there.

A folder comes out of an archive or from another person. A link, a pipe or a file of 5 GB may bear the name of a caption
file; a file may bear the name of the journal.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from captioner.data.paths import shown
from captioner.errors import OutputError

LONGEST_TEXT = 1 << 20
"""Bytes of a caption file beside a photo."""


def refuse_foreign(path: str, what: str) -> None:
    """Raise ``OutputError`` where something lies at ``path`` that is not this user's own regular file.

    A file with a second name (a hard link) is refused too: writing to it would change what bears the other name.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        kind = "is a link" if stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode) else "is no regular file"
    elif hasattr(os, "geteuid") and status.st_uid != os.geteuid() and status.st_uid != _owner_here(path):
        kind = "belongs to another user"
    else:
        return
    raise OutputError(f"{shown(path)} is not {what} of yours: it {kind}; remove it, or write elsewhere with --out DIR")


def refuse_irregular(path: str, most: int | None = None) -> None:
    """Raise ``OutputError`` for a pipe or device in place of a file, or one of more bytes; folders raise on opening."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        why = "it is a pipe, socket or device, not a file"
    elif most is not None and stat.S_ISREG(status.st_mode) and status.st_size > most:
        why = f"it is larger than the {most / 1e6:,.0f} MB that are read of such a file"
    else:
        return
    raise OutputError(f"cannot read {shown(path)}: {why}; move it away, or write elsewhere with --out DIR")


def read_small(path: str, most: int = LONGEST_TEXT) -> bytes:
    """All bytes of a regular file. Raises ``OSError``, and ``OutputError`` for what is none or larger."""
    refuse_irregular(path, most)
    with open(path, "rb") as file:
        return file.read(most)


def _owner_here(path: str) -> int | None:
    """Whom a new file belongs to beside ``path``: network disks may give all files one owner, whoever writes them."""
    probe = os.path.join(os.path.dirname(path), f".captioner-{secrets.token_hex(4)}.probe")
    with contextlib.suppress(OSError):
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
            os.unlink(probe)
    return None
