"""Words beside an apostrophe, which tell it from a quotation mark.

The lists hold the pieces into which a BERT tokenizer cuts words of English, French, Italian and Turkish. Accents do not
count, since an uncased vocabulary has none.
"""

from __future__ import annotations

import re
import unicodedata

_CONTRACTIONS = frozenset(("s", "re", "ve", "ll", "d", "m", "em"))
_SUFFIXES = frozenset(("da", "dan", "daki", "deki", "ta", "taki", "ya", "yi", "nin", "yla", "yle", "lar", "ler"))
_BEFORE_ALL = frozenset(("o", "d", "l", "y"))  # o'clock, d'or, l'eau, y'all
_BEFORE_VOWELS = re.compile(  # c'est, qu'il, un'auto, dell'anno
    "[cjmnstv]|(jus|lors|puis|quoi|quel|pres)?qu|aujourd|(ness|ciasc)?un|d?all|(de|ne|su|co|que|be)ll|quest|sant"
    "|anch|dov|cos"
)
_CUT_OFF = frozenset(("ol", "lil", "po"))  # ol' man, un po' di
_BEFORE_QUOTATIONS = re.compile(
    "says|saying|reads|reading|words?|letters?|displays|shows|states|spells|initials|sign|text|message|logo|called|named"
    "|labeled|titled|is|was|as|this|that|an?|the|and|or|with|of|for|in|on|to|by|from"
)


def is_contraction(before: str, after: str) -> bool:
    """Return whether ``after`` is the end of a word: ``man ' s``, ``don ' t``, ``istanbul ' da``."""
    before, after = _plain(before), _plain(after)
    negation = after == "t" and before.endswith("n")
    return after in _CONTRACTIONS or negation or (after in _SUFFIXES and not introduces(before))


def is_elision(before: str, after: str) -> bool:
    """Return whether ``before`` is the beginning of a word: ``o ' clock``, ``c ' est``, ``dell ' anno``."""
    before, after = _plain(before), _plain(after)
    return before in _BEFORE_ALL or bool(_BEFORE_VOWELS.fullmatch(before) and after.startswith(tuple("aeiouhy")))


def is_cut_off(before: str) -> bool:
    """Return whether ``before`` often ends with an apostrophe: ``dogs ' bowl``, ``ol ' man``."""
    word = _plain(before)
    possessive = word.endswith("s") and len(word) > 1 and not introduces(before)
    return possessive or word in _CUT_OFF


def introduces(before: str) -> bool:
    """Return whether a quotation is more probable after ``before`` than an apostrophe."""
    return bool(_BEFORE_QUOTATIONS.fullmatch(_plain(before)))


def _plain(word: str) -> str:
    """Return ``word`` in small letters without accents."""
    letters = unicodedata.normalize("NFD", word.lower().replace("ı", "i"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
