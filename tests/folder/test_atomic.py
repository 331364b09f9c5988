"""Sentences for files that cannot be written, on Windows too."""

from __future__ import annotations

import errno

import pytest

from captioner.folder import atomic


class OfWindows(PermissionError):
    """An error of Windows, which has its own number."""

    winerror = 32


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "the disk is full"),
        (OSError(errno.EACCES, "denied"), "permission denied; write elsewhere"),
        (OSError(errno.EROFS, "read-only"), "read-only file system; write elsewhere"),
        (OSError(errno.ENAMETOOLONG, "too long"), "its name would be too long"),
        (OSError(errno.ENOENT, "No such file"), "no such file; write elsewhere"),
        (OfWindows(errno.EACCES, "in use"), "another program has it open; close it there and repeat the command"),
    ],
)
def test_the_reason_and_the_remedy(error: OSError, said: str) -> None:
    assert str(atomic.refused("photos/dog.txt", error)).startswith(f"cannot write photos/dog.txt: {said}")


@pytest.mark.parametrize(("windows", "said"), [(True, "its name would be too long"), (False, "no such file")])
def test_a_long_path_does_not_exist_for_windows(monkeypatch: pytest.MonkeyPatch, windows: bool, said: str) -> None:
    monkeypatch.setattr(atomic, "WINDOWS", windows)
    path = "/photos/" + "x" * 260 + ".txt"
    assert f": {said}" in str(atomic.refused(path, OSError(errno.ENOENT, "No such file")))
