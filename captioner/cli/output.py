"""Paths that people type, and lines that programs read: what the verbs that walk over photos share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from captioner.data.paths import CONTROLS, plain
from captioner.errors import UsageError

if TYPE_CHECKING:
    from captioner.captions import Caption

_ESCAPES = {**CONTROLS, **str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})}


def paths_of(given: Iterable[str]) -> Iterator[str]:
    """The given paths; ``-`` stands for those on stdin, one a line."""
    for path in given:
        if path != "-":
            yield path
            continue
        if sys.stdin is None:  # closed by who started the command
            raise UsageError("stdin is closed; give the paths as arguments, or a list of them by a pipe")
        for line in sys.stdin.buffer:
            if line := line.rstrip(b"\r\n"):
                yield os.fsdecode(line)


def escaped(text: str) -> str:
    """On one line and in one column: tabs, line breaks and backslashes as \\t, \\n, \\r and \\\\, others as \\x1b."""
    return text.translate(_ESCAPES)


def print_caption(path: str, caption: Caption, *, json: bool, details: bool) -> None:
    """A photo's captions: a line each, or one record with ``json`` or ``details``."""
    if json or details:
        print_json({"path": path, **_record(caption, details=details)})
        return
    for one in (caption, *caption.alternatives):
        print_text(f"{escaped(path)}\t{escaped(one.text)}")


def _record(caption: Caption, *, details: bool) -> dict[str, object]:
    record: dict[str, object] = {"caption": caption.text, "score": round(caption.score, 4)}
    if details:
        record["confidence"] = round(caption.confidence, 4)
        record["words"] = [[word.text, round(word.probability, 4)] for word in caption.words]
        if caption.labels:
            record["labels"] = [[label.text, round(label.probability, 4)] for label in caption.labels]
    for name in ("embedding", "text_embedding", "features"):
        if (vector := getattr(caption, name)) is not None:
            record[name] = [round(value, 6) for value in vector.tolist()]
    if caption.alternatives:
        record["alternatives"] = [_record(other, details=details) for other in caption.alternatives]
    return record


def print_json(record: dict[str, object]) -> None:
    """One record on stdout, on one line."""
    line = json.dumps(record, ensure_ascii=False)
    if not line.isprintable():  # a name that is not UTF-8 is written as \udcXX escapes, which JSON can carry
        line = json.dumps(record)
    print_text(line)


def print_text(text: str, end: str = "\n") -> None:
    """On stdout, in UTF-8 whatever the terminal's encoding; names that are not UTF-8 keep their bytes.

    Control codes are escaped, and so are such bytes where a person looks: a terminal would obey some.
    """
    sys.stdout.flush()
    rest = "backslashreplace" if sys.stdout.isatty() else "surrogateescape"
    sys.stdout.buffer.write((text.translate(CONTROLS) + end).encode("utf-8", rest))
    sys.stdout.buffer.flush()


def tell(sentence: object) -> None:
    """A message on stderr."""
    print(message(sentence), file=sys.stderr, flush=True)


def message(sentence: object) -> str:
    """What stands on stderr for a problem, without codes that a terminal would obey, or passwords of URLs."""
    return f"captioner: {plain(str(sentence))}"
