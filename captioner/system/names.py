"""File names as other systems see them: Windows accepts fewer, and Windows and macOS ignore case.

Windows (learn.microsoft.com, "Naming Files"): ``con`` and ``aux.txt`` are devices, ``a:b`` is a stream of the file
``a``, and dots and spaces at the end are dropped, so that ``a.`` is ``a``.
"""

from __future__ import annotations

import ntpath
import os
import re
import unicodedata

WINDOWS = os.name == "nt"
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])( *)(\.|:|$)", re.IGNORECASE)
_UNSAFE = re.compile(r'[<>:"/\\|?*%\x00-\x1f]')


def accepted(part: str) -> str:
    """Return one part of a path, from an archive or a URL, as a name that this system accepts; others are unchanged.

    On Windows the rest becomes percent escapes, as in URLs: ``aux.jpg`` is ``%61ux.jpg``, ``a:b`` is ``a%3Ab``. Two
    names never become one, since ``%`` is escaped too.
    """
    if not WINDOWS:
        return part
    part = _UNSAFE.sub(lambda match: _escaped(match[0]), part)
    end = len(part.rstrip(". "))
    part = part[:end] + "".join(map(_escaped, part[end:]))
    return _escaped(part[0]) + part[1:] if _RESERVED.match(part) else part


def folded(name: str) -> str:
    """Return a key that is equal for names that Windows or macOS may take for one: in any case and Unicode form."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def may_leave(name: str) -> bool:
    """Return whether a name may lead out of the folder that it is joined to, on any system.

    It has a drive (``C:x.jpg``, ``\\\\server\\share``), a slash at its start, or ``..``; ``os.path.isabs`` knows only
    some of these, depending on the system and the version of Python.
    """
    return ".." in name or name.startswith(("/", "\\")) or has_drive(name)


def has_drive(name: str) -> bool:
    """Return whether Windows takes the beginning of a name for a drive or a server."""
    return bool(ntpath.splitdrive(name)[0])


def ignores_case(file: str) -> bool:
    """Return whether the folder of an existing file ignores case."""
    folder, name = os.path.split(file)
    try:
        return name.swapcase() != name and os.path.samefile(file, os.path.join(folder, name.swapcase()))
    except OSError:
        return False


def _escaped(character: str) -> str:
    return f"%{ord(character):02X}"
