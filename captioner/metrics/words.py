"""What a word is, for every metric alike.

``ptb``: Penn Treebank tokens in lower case without punctuation, as the COCO tools make them; equal to ``PTBTokenizer``
of pycocoevalcap (Stanford CoreNLP 3.4.1) run on the caption alone. Run on a file of captions it also looks at the
beginning of the next line: there "... the letter P." loses its period before "A man ...".

``characters`` and ``jieba`` are for languages that write no blanks between words, where ``ptb`` sees one word per
clause.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

from captioner.config import Words
from captioner.errors import MissingExtraError
from captioner.metrics.treebank import tokens

Split: TypeAlias = Callable[[str], list[str]]

# Where a token may reach over, or depend on, what follows a blank: markup, "1 1/2", ". . .", "no. 5", "B. The".
_SPANNING = re.compile(r"<|[\d)]\s\d|\.\s+[.\d]|(?<![^\W_])[A-Za-z]\.\s+[A-Z]")

# Letters of scripts that part no words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Chinese characters.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_PARTS = re.compile(rf"([{_UNSPACED}])")


def splitter(name: Words) -> Split:
    """How captions become words. Raises ``MissingExtraError`` for jieba where it is not installed."""
    return SPLITTERS[name]()


def words(text: str) -> list[str]:
    """Split one caption into words. About 85,000 captions a second: everything between two blanks is cached."""
    if _SPANNING.search(text):
        return list(tokens(text))
    return [word for chunk in text.split() for word in _chunk_words(chunk)]


def characters(text: str) -> list[str]:
    """Every character of an unspaced script, with the marks upon it, is a word; what lies between is as in ``ptb``."""
    found: list[str] = []
    for part in _PARTS.split(unicodedata.normalize("NFKC", text)):
        if not _PARTS.fullmatch(part):
            found += filter(_is_word, words(part))
        elif found and unicodedata.category(part) in ("Mn", "Mc"):
            found[-1] += part
        elif unicodedata.category(part)[0] in "LMN":
            found.append(part)
    return found


def unspaced(captions: Iterable[str]) -> bool:
    """Whether a tenth or more of these captions hold letters of a script that writes no blanks between words."""
    flags = [bool(_PARTS.search(caption)) for caption in captions]
    return 10 * sum(flags) >= len(flags) > 0


def _jieba() -> Split:
    try:
        import jieba
    except ImportError as error:
        raise MissingExtraError("jieba", "chinese", "--words jieba") from error
    jieba.setLogLevel("WARNING")  # else it tells of the dictionary that it reads

    def split(text: str) -> list[str]:
        cut = jieba.lcut(unicodedata.normalize("NFKC", text))
        return [word for part in cut for word in ([part] if _PARTS.search(part) else words(part)) if _is_word(word)]

    return split


def _is_word(part: str) -> bool:
    """Not "。" or "、", which the Treebank's rules do not know as marks."""
    return any(character.isascii() or unicodedata.category(character)[0] in "LMNS" for character in part)


SPLITTERS: dict[Words, Callable[[], Split]] = {
    "ptb": lambda: words,
    "characters": lambda: characters,
    "jieba": _jieba,
}


@lru_cache(maxsize=1 << 16)
def _chunk_words(chunk: str) -> tuple[str, ...]:
    return tuple(tokens(chunk))
