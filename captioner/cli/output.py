"""Reading paths from arguments and stdin, and printing results and messages."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from captioner.captioning.records import record_of, spoken
from captioner.data.paths import CONTROLS, plain
from captioner.errors import UsageError

if TYPE_CHECKING:
    from captioner.captioning.answers import Answer
    from captioner.captioning.captions import Caption

_ESCAPES = {**CONTROLS, **str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})}


def paths_of(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the paths; ``-`` reads one path per line from stdin."""
    for path in arguments:
        if path != "-":
            yield path
            continue
        if sys.stdin is None:  # the caller closed it
            raise UsageError("stdin is closed; pass the paths as arguments or through a pipe")
        for line in sys.stdin.buffer:
            if line := line.rstrip(b"\r\n"):
                yield _path_in(line)


def _path_in(line: bytes) -> str:
    try:
        return os.fsdecode(line)
    except UnicodeDecodeError:  # on Windows; elsewhere any bytes can be a name
        raise UsageError(f"the line {ascii(line[:80])[1:]} on stdin is not UTF-8; write the list in UTF-8") from None


def escaped(text: str) -> str:
    """Escape ``text`` to fit one column of one line: tabs, line breaks, backslashes, and control codes as \\x1b."""
    return text.translate(_ESCAPES)


def print_caption(path: str, caption: Caption, *, json: bool, details: bool) -> None:
    """Print a photo's captions, one per line, or as one record with ``json`` or ``details``."""
    if json or details:
        print_json({"path": path, **record_of(caption, details=details)})
        return
    for candidate in (caption, *caption.alternatives):
        print_text(f"{escaped(path)}\t{escaped(caption_text(candidate))}")


def caption_text(caption: Caption | Answer) -> str:
    """Return a caption or an answer as plain text, with a word of warning if it is unsure."""
    return spoken(caption.text, unsure=caption.unsure)


def print_json(record: dict[str, object]) -> None:
    """Print a record on stdout, on one line."""
    line = json.dumps(record, ensure_ascii=False)
    if not line.isprintable():  # a name that is not UTF-8 becomes \udcXX escapes, which JSON allows
        line = json.dumps(record)
    print_text(line)


def print_text(text: str, end: str = "\n") -> None:
    """Print on stdout, always in UTF-8; names that are not UTF-8 keep their bytes.

    Control codes are escaped, since a terminal would execute some; so are these bytes on a terminal.
    """
    sys.stdout.flush()
    rest = "backslashreplace" if sys.stdout.isatty() else "surrogateescape"
    text = text.translate(CONTROLS) + end
    try:
        data = text.encode("utf-8", rest)
    except UnicodeEncodeError:  # half a character, which names on Windows may hold
        data = text.encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def tell(sentence: object) -> None:
    """Print a message on stderr."""
    print(message(sentence), file=sys.stderr, flush=True)


def message(sentence: object) -> str:
    """Return the line for stderr, without control codes and without passwords of URLs."""
    return f"captioner: {plain(str(sentence))}"
