"""Rows of names, and of other contents of a folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from case import CAPTION, Case
from images import encoded, photo


def names() -> list[Case]:
    """Return whole photos with odd names."""
    data = encoded(photo(8, 8), "PNG")
    found = {
        "emoji \U0001f468\u200d\U0001f469\u200d\U0001f467.png": "emoji",
        "two\nlines.png": "a newline",
        "a\ttab.png": "a tab",
        "return\r.png": "a carriage return",
        "\x1b[31mred.png": "a terminal's escape sequence",
        os.fsdecode(b"latin-\xe9.png"): "bytes that are not UTF-8",
        "x" * 251 + ".png": "255 bytes",
        "\u0646\u202egnp.exe.png": "right to left",
        "e\u0301.png": "a combining accent",
        "-rf.png": "begins with a dash",
        "--model.png": "looks like an option",
        " space .png": "begins and ends with a space",
        "quote'\"$(id)`id`.png": "quotes and commands",
        "back\\slash.png": "a backslash",
        "%s{0}.png": "a format",
        "star*[1]?.png": "characters of a pattern",
        "http:__photo.png": "like a URL",
        "archive.zip!.png": "like a photo in an archive",
        "CON.png": "a device of Windows",
        "..png": "two dots",
        "UPPER.PNG": "upper case",
    }
    return [
        Case(
            name=f"names/{name}",
            what=what,
            outcome="" if name.startswith(".") else CAPTION,
            make=lambda path: path.write_bytes(data),
            shown=_short(name),
        )
        for name, what in found.items()
    ]


def _short(name: str) -> str:
    text = name.encode("unicode_escape").decode() if not name.isprintable() else name
    return f"{text[:3]}...{text[-5:]}" if len(text) > 60 else text


def places() -> list[Case]:
    """Return contents of a folder other than plain files, and folders that cannot be read."""
    data = encoded(photo(), "PNG")

    def of(make: Callable[[Path], object], name: str, what: str, outcome: str) -> Case:
        return Case(name=f"places/{name}", what=what, outcome=outcome, make=make)

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def hard_link(path: Path) -> None:
        write(path)
        os.link(path, path.with_name("hard-link.png"))

    def listen(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket may have 108 bytes
            server.bind(path.name)
            os.chdir(here)

    def locked(path: Path) -> None:
        write(path)
        path.chmod(0)

    def closed(path: Path) -> None:
        write(path / "photo.png")
        path.chmod(0)

    def listed(path: Path) -> None:
        write(path)
        path.parent.chmod(0o444)

    def deep(path: Path) -> None:
        here = os.getcwd()
        for _ in range(20):
            path.mkdir(exist_ok=True)
            os.chdir(path)
            path = Path("d" * 250)
        Path("photo.png").write_bytes(data)
        os.chdir(here)

    circle = "too many levels of symbolic links"
    return [
        of(lambda path: path.symlink_to(path.name), "loop.png", "a link to itself", circle),
        of(
            lambda path: path.symlink_to("nowhere.png"),
            "broken.png",
            "a link to nothing",
            "it is a link to a file that does not exist",
        ),
        of(
            lambda path: path.symlink_to("/dev/zero"),
            "zero.png",
            "a link to a device without end",
            "it is a pipe, socket or device, not a file",
        ),
        of(os.mkfifo, "pipe.png", "a named pipe that nobody writes to", "it is a pipe, socket or device, not a file"),
        of(listen, "socket.png", "a socket", "it is a pipe, socket or device, not a file"),
        of(lambda path: path.mkdir(), "folder.png", "an empty folder called .png", ""),
        of(lambda path: path.symlink_to("."), "here", "a link to its own folder", ""),
        of(lambda path: path.symlink_to(".."), "up", "a link to the folder above", ""),
        of(hard_link, "again.png", "a second name of the same file", CAPTION),
        of(lambda path: None, "hard-link.png", "that second name", CAPTION),
        of(lambda path: path.symlink_to("again.png"), "link.png", "a link to a photo of the run", ""),
        of(write, ".hidden.png", "a hidden file", ""),
        of(write, ".cache/photo.png", "in a hidden folder", ""),
        of(write, "notes.txt", "a photo that is not called one", ""),
        of(locked, "locked.png", "a file that may not be read", "permission denied"),
        of(closed, "closed", "a folder that may not be read", "permission denied"),
        of(listed, "listed/photo.png", "in a folder that may be listed but not entered", "permission denied"),
        of(deep, "deep", "20 folders deep, 5,000 bytes of path", "file name too long"),
    ]
