"""What a word is: Penn Treebank tokens in lower case without punctuation, as the COCO tools make them.

Equal to ``PTBTokenizer`` of pycocoevalcap (Stanford CoreNLP 3.4.1) run on the caption alone. Run on a file of captions
it also looks at the beginning of the next line: there "... the letter P." loses its period before "A man ...".
"""

from __future__ import annotations

import re
from functools import lru_cache

from captioner.metrics.treebank import tokens

# Where a token may reach over, or depend on, what follows a blank: markup, "1 1/2", ". . .", "no. 5", "B. The".
_SPANNING = re.compile(r"<|[\d)]\s\d|\.\s+[.\d]|(?<![^\W_])[A-Za-z]\.\s+[A-Z]")


def words(text: str) -> list[str]:
    """Split one caption into words. About 85,000 captions a second: everything between two blanks is cached."""
    if _SPANNING.search(text):
        return list(tokens(text))
    return [word for chunk in text.split() for word in _chunk_words(chunk)]


@lru_cache(maxsize=1 << 16)
def _chunk_words(chunk: str) -> tuple[str, ...]:
    return tuple(tokens(chunk))
