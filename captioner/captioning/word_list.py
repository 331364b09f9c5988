"""Lists of words in files."""

from __future__ import annotations

import os
from pathlib import Path

from captioner.checkpoint.files import regular_text
from captioner.data.paths import shown
from captioner.errors import UsageError

LONGEST_LIST = 1 << 20  # bytes
MOST_WORDS = 5_000
LONGEST_WORDS = 100  # characters of a line; the spellings of a line grow with its square


def word_list(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read words or phrases from a UTF-8 file: one per line, without blank lines and lines that begin with #.

    ::

        pipe.caption("photo.jpg", forbid=captioner.word_list("forbidden.txt"))

    Raises ``UsageError`` for a file that cannot be read, is too long, or holds no words.
    """
    name = shown(os.fspath(path))
    try:
        text = regular_text(Path(path), most=LONGEST_LIST)
    except UnicodeDecodeError:
        raise UsageError(f"the word list {name} is not UTF-8; save it as UTF-8") from None
    except ValueError as error:
        raise UsageError(f"the word list {name} cannot be used: {error}; shorten it") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"the word list {name} cannot be read ({why}); name a text file") from None
    lines = (line.strip() for line in text.removeprefix("\ufeff").split("\n"))
    words = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not words:
        raise UsageError(f"the word list {name} holds no words; write one per line")
    if len(words) > MOST_WORDS:
        raise UsageError(f"the word list {name} has {len(words):,} words, more than {MOST_WORDS:,}; shorten it")
    if longer := next((line for line in words if len(line) > LONGEST_WORDS), None):
        raise UsageError(
            f"the word list {name} has a line of more than {LONGEST_WORDS} characters, {longer[:20]!r}...; write one "
            "word or phrase per line"
        )
    return words
