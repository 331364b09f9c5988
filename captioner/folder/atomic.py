"""Files that are there whole or not at all, whatever kills the process, and sentences for what the system refuses."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable

from captioner.data.paths import shown
from captioner.disk import put_in_place
from captioner.errors import OutputError

_numbers = itertools.count()
_PARTIAL = ".partial"


def replace_file(path: str, parts: Iterable[bytes], token: str) -> None:
    """Put a file in the place of ``path``: written beside it, forced to the disk, renamed.

    The mode and, where the system allows it, the owner of a file that was there are kept. A link is replaced and not
    followed: where it may be, ``Confines.real`` says where it leads. Names of unfinished files begin with ``token``, by
    which ``sweep`` knows them. Raises ``OSError``.
    """
    temporary = os.path.join(os.path.dirname(path), f".captioner-{token}-{next(_numbers)}{_PARTIAL}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                _keep(temporary, os.stat(path))
            os.fsync(file.fileno())
        put_in_place(temporary, path, forced=True)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sweep(folder: str, tokens: Iterable[str]) -> None:
    """Remove the unfinished files that killed processes with these tokens left in a folder."""
    starts = tuple(f".captioner-{token}-" for token in tokens)
    with contextlib.suppress(OSError), os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            if entry.name.startswith(starts) and entry.name.endswith(_PARTIAL):
                os.unlink(entry.path)


def refused(path: str, error: OSError) -> OutputError:
    """The sentence for a file that cannot be written, with the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space and give the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = f"{'read-only file system' if error.errno == errno.EROFS else 'permission denied'}; "
        why += "write elsewhere with --out DIR, or change the folder's permissions"
    elif error.errno == errno.ENAMETOOLONG:
        why = "its name would be too long; write jsonl or csv, or shorten the photo's name"
    else:
        why = f"{(error.strerror or str(error)).lower()}; write elsewhere with --out DIR, or clear what is in the way"
    return OutputError(f"cannot write {shown(path)}: {why}")


def _keep(temporary: str, there: os.stat_result) -> None:
    os.chmod(temporary, there.st_mode & 0o7777)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(temporary, there.st_uid, there.st_gid)
