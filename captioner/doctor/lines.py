"""The lines of the report, without names of the user's files and without tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from captioner.data.paths import plain
from captioner.errors import reason_of

LONGEST = 300  # characters of a value

_QUOTED_PATH = re.compile(r"""(['"])(?:~|[A-Za-z]:)?[\\/].*?\1""")
_FILE_URL = re.compile(r"""\bfile:[\\/]+[^\s'"),;]*""", re.IGNORECASE)
_PATH = re.compile(r"""(?<![\w.~:/\\])(?:~(?!/\.cache/)|[A-Za-z]:)?[\\/][^\s'"),;:]+""")  # caches are below ~/.cache
_TOKEN = re.compile(r"\b(?:hf|gh[a-z]|sk|github_pat)[_-][A-Za-z0-9_-]{8,}")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A finding, as a line of the report."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A problem that makes captions slow or impossible."""

    problem: str
    remedy: str
    fatal: bool = False  # no caption can be written


Line: TypeAlias = Fact | Warned
Probe: TypeAlias = Callable[[], Iterator[Line]]


def lines_of(name: str, probe: Probe) -> Iterator[Line]:
    """Yield the lines of a probe; an exception, also of a broken package, becomes one line."""
    try:
        for line in probe():
            yield _cleaned(line)
    except Exception as error:
        yield Fact(name=name, value=f"not known ({type(error).__name__}: {scrubbed(reason_of(error))})")


def _cleaned(line: Line) -> Line:
    if isinstance(line, Fact):
        return Fact(name=line.name, value=scrubbed(line.value))
    return Warned(problem=scrubbed(line.problem), remedy=line.remedy, fatal=line.fatal)


def home_folder() -> str:
    """Return the user's folder; empty if there is none."""
    try:
        return str(Path.home())
    except RuntimeError:
        return ""


def scrubbed(text: str) -> str:
    """Return a text without paths, tokens, passwords of URLs and control codes, of at most ``LONGEST`` characters."""
    text = text.replace(home, "/~") if len(home := home_folder()) > 1 else text  # a path without spaces
    text = plain(" ".join(text.split()))
    for path in (_QUOTED_PATH, _FILE_URL, _PATH):
        text = path.sub("PATH", text)
    text = _TOKEN.sub("TOKEN", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
