"""Atomic writes through temporary files, and error messages for failed writes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable

from captioner.data.paths import shown
from captioner.errors import OutputError
from captioner.system.disk import put_in_place
from captioner.system.names import WINDOWS

_numbers = itertools.count()
_PARTIAL = ".partial"
_IN_USE = (32, 33)  # Windows: sharing violation, lock violation
_LONGEST_PATH = 259  # Windows, unless its setting LongPathsEnabled is on; longer ones "do not exist"


def replace_file(path: str, parts: Iterable[bytes], token: str) -> None:
    """Write ``path`` atomically: write a temporary file beside it, flush it to the disk, rename it.

    The mode and, if the system allows it, the owner of an existing file are kept. A symlink is replaced, not followed;
    ``Confines.real`` resolves it beforehand. The names of temporary files contain ``token``, by which ``sweep``
    recognises them. Raises ``OSError``.
    """
    temporary = os.path.join(os.path.dirname(path), f".captioner-{token}-{next(_numbers)}{_PARTIAL}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                _copy_mode(temporary, os.stat(path))
            os.fsync(file.fileno())
        put_in_place(temporary, path, forced=True)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sweep(folder: str, tokens: Iterable[str]) -> None:
    """Remove the temporary files that killed processes with these tokens left in a folder."""
    prefixes = tuple(f".captioner-{token}-" for token in tokens)
    with contextlib.suppress(OSError), os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            if entry.name.startswith(prefixes) and entry.name.endswith(_PARTIAL):
                os.unlink(entry.path)


def refused(path: str, error: OSError) -> OutputError:
    """Return the error for a file that cannot be written, with the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space and repeat the command"
    elif getattr(error, "winerror", None) in _IN_USE:
        why = "another program has it open; close it there and repeat the command"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = f"{'read-only file system' if error.errno == errno.EROFS else 'permission denied'}; "
        why += "write elsewhere with --out DIR, or change the folder's permissions"
    elif error.errno == errno.ENAMETOOLONG or (WINDOWS and len(os.path.abspath(path)) > _LONGEST_PATH):
        why = "its name would be too long; write jsonl or csv, or shorten the photo's name"
    else:
        why = f"{(error.strerror or str(error)).lower()}; write elsewhere with --out DIR, or fix the cause"
    return OutputError(f"cannot write {shown(path)}: {why}")


def _copy_mode(temporary: str, existing: os.stat_result) -> None:
    os.chmod(temporary, existing.st_mode & 0o7777)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may change the owner
            os.chown(temporary, existing.st_uid, existing.st_gid)
