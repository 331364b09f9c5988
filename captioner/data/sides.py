"""The words for left and right in many languages: a caption with one of them does not fit the mirrored image.

A word too many only keeps a photo from being mirrored. Words that are common with another meaning (Spanish "sol",
Vietnamese "phải", Russian "лев") count only in forms or phrases that mean a side.
"""

from __future__ import annotations

import re
import unicodedata

_WORDS = {  # whole words
    "English": r"(left|right)(most|wards?|hand(ed|ers?)?|sided?|y|ies)?",
    "German": r"(links|rechts)\w*|(link|recht)e[mnrs]?",
    "Dutch": r"(linker|rechter)\w*",  # and links, rechts
    "Swedish": r"(vänster|höger)\w*|(vänstr|högr)[ae]",
    "Danish, Norwegian": r"(venstre|højre|høyre)\w*",
    "Finnish": r"vasen|vasem\w+|oikea\w*|oikei\w+",
    "Hungarian": r"(bal|jobb)(ra|ról|on|oldal\w*|kez\w*|kéz\w*)?",
    "French": r"gauch(e|er|ère)s?|droit(e|ier|ière)?s?",
    "Spanish": r"(izquierd|derech|zurd|diestr)[ao]s?",
    "Portuguese": r"(esquerd|direit|canhot)[ao]s?",
    "Italian": r"(sinistr|destr|mancin)[aeio]",
    "Catalan": r"esquerr(a|es|e|ans?)|dret(a|s|es|ans?)?",
    "Romanian": r"stâng\w*|drea?pt\w*",
    "Polish": r"(lew|praw)(y|a|e|ą|ej|ego|emu|o|ym|ymi|ych|oręczn\w*)",
    "Czech": r"(v|na)(levo|pravo)|z(leva|prava)|(lev|prav)(ý|á|é|ou|ého|ém|ým|ých)|(lev|prav)á[kč]\w*",
    "Russian": r"с(лева|права)|(в|на)(лево|право)|(лев|прав)ш\w+"
    r"|(лев|прав)(ый|ая|ое|ой|ую|ою|ом|ого|ому|ым|ые|ых|ыми|ее)",
    "Ukrainian": r"зліва|праворуч|ліворуч|(в|на)ліво|(лів|прав)(ий|а|е|ої|ій|у|ою|ого|ому|им|і|их|ими)",
    "Greek": r"(αριστερ|δεξι)\w*",
    "Turkish": r"sağ(a|da|dan|daki|ına|ında|ından|ındaki)?|sol(da|dan|daki|una|unda|undan|undaki)"
    r"|sol (taraf|yan|el|kol|ayak|köşe|üst|alt)\w*",
    "Indonesian, Malay, Filipino": r"kiri|kanan|kaliwa",
    "Vietnamese": r"(bên|phía|tay|chân|góc|rẽ) (trái|phải)",
    "Hebrew": r"[בהולמ]*(שמאל|ימין|שמאלית?|ימנית?)ה?",
    "Persian": r"چپ|راست",
    "Urdu": r"بائیں|دائیں",
}
_ANYWHERE = {  # without spaces between words, with prefixes, or with marks that are no letters for Python
    "Chinese, Japanese": r"[左右]|ひだり|みぎ",
    "Korean": r"왼|오른|[좌우]측|좌우",
    "Thai": r"ซ้าย|ขวา(?!น)",
    "Arabic": r"يسار|يمين|[أا]يسر|يسرى|[أا]يمن|يمنى",
    "Hindi": r"बा(एं|एँ|यें|ईं|यीं|याँ|यां)|दा(एं|एँ|यें|ईं|यीं|याँ|यां|हिन)",
    "Bengali": r"(বাম|বাঁ|ডান) ?(ে|দিক|পাশ|হাত)",
}
_BEGIN, _END = r"(?<![^\W_])", r"(?![^\W_])"  # of a word; a tag may have underscores
_SIDES = re.compile(
    unicodedata.normalize("NFC", f"{_BEGIN}({'|'.join(_WORDS.values())}){_END}|{'|'.join(_ANYWHERE.values())}"),
    re.IGNORECASE,
)


def names_side(caption: str) -> bool:
    """Return whether a caption mentions left or right."""
    return _SIDES.search(unicodedata.normalize("NFC", caption)) is not None
