"""Character classes of the Penn Treebank tokenizer: each character becomes one representative of its class.

The classes were measured on the Java tool, character by character. The tool knows the letters of an older Unicode;
newer letters are letters here too. It drops all characters above U+FFFF, so emoji vanish.
"""

from __future__ import annotations

import unicodedata

VANISHING = "\x00"  # ends a word and is dropped: control characters, emoji, zero-width spaces, ellipses, dashes
HYPHEN = "\x01"  # joins two words like a hyphen, and is dropped
MARK = "\x02"  # an accent or vowel sign: a letter inside a word, but not after a digit
RAISED, LOWERED = "\x03", "\x04"  # ² and ₂: digits that are words of their own
_SYMBOL = "§"  # represents symbols that Python's \w counts as digits

# The tool's spelling of characters that are words of their own.
SPELLED = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "¢": "cents",
    **dict.fromkeys("€¤₠\x80", "$"),
    "¼": "1/4",
    "½": "1/2",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
}

# \x80 to \x97: quotes and dashes of Windows text that was decoded as Latin-1. The grammar handles the last line.
_SPECIAL = {
    **dict.fromkeys("’\x92", "’"),
    **dict.fromkeys("‘‛\x91", "‘"),
    **dict.fromkeys("“«\x93", "“"),
    **dict.fromkeys("”»\x94", "”"),
    **dict.fromkeys("–—―…\x85\x96\x97", VANISHING),
    **dict.fromkeys("֊‐‑", HYPHEN),
    **dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹", RAISED),
    **dict.fromkeys("₀₁₂₃₄₅₆₇₈₉", LOWERED),
    **{character: _SYMBOL for character in SPELLED if not character.isascii()},
    **{character: character for character in "‹›٫٬⁄"},
}


def _characters(ranges: str) -> frozenset[str]:
    """Return the characters of ``first-last`` ranges of code points in hexadecimal."""
    characters: set[str] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        characters.update(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return frozenset(characters)


_MARKS = _characters("""
2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 615-61a
64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e 951-955 962-963 981-983 9bc
9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c a3e-a4f a81-a83 abc abe-acf b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03 c3e-c56
d3e-d44 d46-d48 e31 e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd 1885-1886
""")
# Each of these is a word of its own.
_SYMBOLS = _characters("""
a1 a5-a9 ac ae-b4 b6-b9 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f 66a 66d 6d4
700-70d 7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 201a 201e-2023 2030-2038 203b 203e-2042 2070 2074-207e 2080-208e 20a4
2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b 2140-2144 214a-214d 214f 2155-215e
2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6
""")


def fold(text: str) -> str:
    """Replace every non-ASCII character with the representative of its class; the length stays the same."""
    return text if text.isascii() and text.isprintable() else text.translate(_FOLDS)


class _Folds(dict[int, str]):
    """A table for ``str.translate`` that classifies a character at its first use."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_character(chr(code))
        return folded


def _fold_character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isspace():
        return " "
    if character.isascii() and character.isprintable():
        return character
    if character in _MARKS:
        return MARK
    if character in _SYMBOLS:
        return _SYMBOL if character.isalnum() else character
    if character <= "\uffff" and unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd"):
        return character
    return VANISHING


_FOLDS = _Folds()
