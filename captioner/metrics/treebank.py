"""The grammar of Penn Treebank tokens (Marcus et al. 1993), equal to the Java tool of the COCO evaluation.

It is a lexer: at each place the longest match of all rules wins, the earlier rule on a tie. A rule's group is the
token; the rest of the match is required context. The rules come from experiments with the tool, and a test compares
them with it. Start reading at ``_RULES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from captioner.metrics.characters import HYPHEN, LOWERED, MARK, RAISED, SPELLED, VANISHING, fold

# Abbreviations keep their period. The second list does so even before a letter ("Jan.x"), the third only in this
# spelling, the fourth only before a number.
_ABBREVIATIONS = r"""
adj adm adv alex asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov govs hon insp invt jos
lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof pvt rep reps rev sen sens sfc sgt spc st ste supt vs wm
(?-i:[Mm][ft]g)
"""
_FIRM_ABBREVIATIONS = r"""
al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga inc
ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep sept seq sq
sr sys tel tenn thu tue tues univ va vt wed wis wisc wyo ph\.d ed\.d
"""
_EXACT_ABBREVIATIONS = r"""
Ark Az Del Ill La Mass Miss Ore Pa Tex Wash ARK AZ DEL ILL LA MASS MISS ORE PA TEX WASH
[Pp]p?t[ey]s?
"""
_NUMBER_ABBREVIATIONS = "art ca fig figs no nos op pp prop"
# These begin a sentence, so the initial before them ended one: "plan B. The dog", unlike "B. Smith".
_STARTERS = r"""
A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One Other
Our She Since So Some Such That The Their Then There These They This We What When While Yet You Mr\. Ms\.
"""
_FILE_TYPES = """
bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar
txt wav x xml zip
"""


def _any(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


_L = r"[^\W\d_]"  # letter
_A = r"[^\W_]"  # letter or digit
_Q = "['’]"  # apostrophe
_QQ = "['’`‘]"  # apostrophe inside a word
_ACCENTED = "&[aeiou](?:acute|grave|uml);"
_LETTERS = rf"(?:{_L}|{MARK}|{_ACCENTED})(?:{_A}|{MARK}|{_ACCENTED})*"
_WORD = rf"{_LETTERS}(?:[.!?]{_LETTERS})*"  # "end.The" is one word
_INITIALS = r"[a-z](?:\.[a-z])*"
_PART = rf"(?:[dol]{_QQ}(?={_A}{_A}))?{_A}+"  # street d'Artagnan
_JOINED = rf"{_PART}(?:[-_{HYPHEN}]{_PART})*"
_HYPHENATED = r"[a-z0-9][a-z0-9.,]*(?:-(?:[a-z](?:\.[a-z])+\.|[a-z0-9]+))+"
_FILE = rf"(?:{_A}|{MARK})"
_SLASHED = r"[a-z0-9]+(?:-[a-z]+){0,2}"
_AMP = "(?:&|&amp;)"
_CAPITALS = rf"(?-i:[A-Z]+(?:(?:\+|{_AMP})[A-Z]+)+)"
_FIRM = rf"(?:{_any(_FIRM_ABBREVIATIONS)}|(?-i:{_any(_EXACT_ABBREVIATIONS)}))\."
_NAME = r"[a-z][a-z0-9_:.-]*"
_QUOTED = r"(?:\"[^\"]*\"|'[^']*')"
_MARKUP = rf"<(?:[!?][a-z-][^>\r\n]*|/?{_NAME}(?: +{_NAME}(?: *= *{_QUOTED})?)* */?) *>"
_FACE = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"  # hat, eyes, nose, mouth
_EYES = r"\^x=~<>'"
_DIALLED = r"[0-9]{3,4}[- ]?[0-9]{3,5}"
_DOMAIN = r"(?-i:[^\s\"`'(){}\[\]<>|!?.,;:=/\\@^_$A-Z0-9-])+"
_LAST = r"[^\s\"(){}<>|.,!?-]"  # the last character of an address
_PATH = rf"/[^\s\"()<>|]+{_LAST}"
_WWW = r"www\.(?:[^\s\"(){}<>|.,!?]+\.)+[a-z]{2,4}"
_SITE = rf"(?:{_DOMAIN}\.)+(?:com|net|org|edu)"

# Each rule has the kinds of its first character, to save time: W a letter, D a digit, O any other.
_RULES = [
    ("W", r"(can)not|(gon|wan|got)(?:na|ta)|(lem|gim)me"),
    ("O", r"('t)(?:is|was)"),
    ("WO", rf"({_WORD}){_Q}(?:[smd]|re|ve|ll)"),
    ("W", rf"([a-z]*[a-mo-z])n{_QQ}t"),
    ("WO", _WORD),
    ("W", rf"n{_QQ}t"),
    ("O", rf"({_Q}(?:[smd]|re|ve|ll))[^a-z]"),
    # Apostrophes that belong to a word: 'n' '99 '90s 'em; o'clock ol' y'all; K'nex Hawai'i
    ("O", rf"{_Q}n{_Q}?|({_Q}[0-9][0-9])\s|{_Q}[2-9]0s|{_Q}(?:em|cause|till?)"),
    ("W", rf"o{_QQ}o|e{_Q}er|[ldj]{_Q}|(?:dunkin|somethin|ol){_Q}|c{_Q}mon|cap{_Q}n|c{_Q}est|(y{_Q}){_L}"),
    ("W", rf"(?-i:[A-HJ-XZn]){_QQ}{_L}{{2,}}|{_L}+[aeiouy]{_QQ}(?:[aeiou]|(?-i:[A-Z])){_L}*"),
    # The quote that opens 'sand' and 'no' is not the beginning of 's and 'n
    ("O", r"(')[a-z]\S"),
    ("O", rf"{_Q}(?:[smd]|re|ve|ll)"),
    # Addresses
    ("W", rf"https?://[^\s\"(){{}}<>|]+{_LAST}"),
    ("W", rf"{_WWW}{_PATH}|{_WWW}"),
    ("WDO", rf"{_SITE}{_PATH}|{_SITE}"),
    ("WDO", r"(?:&lt;|<)?[a-z0-9][^\s\"(){}<>|]*@(?:[^\s\"(){}<>|.]+\.)*[^\s\"(){}<>|.]+(?:&gt;|>)?"),
    ("O", rf"@[a-z_][a-z0-9_]*|#(?:{_L}|{MARK})+"),
    # Numbers: 12/25/2010; 1,000 3.5 -5 10:30; 1 1/2; (650) 555-1234
    ("D", r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}"),
    ("DO", r"[-+]?(?:\d+(?:[.:,٫٬]\d+)*|(?:[.:,٫٬]\d+)+)"),
    ("D", r"(?:\d{1,4}[- ])?\d{1,4}(?:\\?/|⁄)\d{1,4}"),
    ("O", rf"\([0-9]{{2,3}}\) ?{_DIALLED}"),
    ("DO", rf"\+{{0,2}}(?:[0-9]{{2,4}}[- ]){{1,2}}{_DIALLED}"),
    ("DO", r"(?:\+{0,2}[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"),
    ("O", f"[⁺⁻₊₋]?(?:{RAISED}+|{LOWERED}+)"),
    # Words of several parts: and/or; tri-colored jack-o'lantern; AT&T C++
    ("WD", rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}"),
    ("WD", _JOINED),
    ("W", rf"{_CAPITALS}|s{_AMP}p-500|s{_AMP}ls|c\.d\.s|pro-|anti-|c\+\+|[cf]#"),
    ("WO", r"(?-i:[A-Z])*\$|#"),
    # Periods that stay, Mr. No. 5 U.S., and any word's before a comma; an initial before a new sentence loses its own
    ("W", rf"({_FIRM})(?s:..)"),
    ("W", rf"{_FIRM}|{_any(_ABBREVIATIONS)}\.|({_any(_NUMBER_ABBREVIATIONS)}\.)\s?[0-9]"),
    ("W", rf"([a-z])\.\s+(?:(?=(?-i:[A-Z])){_any(_STARTERS)}|{_MARKUP})\s"),
    ("W", rf"{_INITIALS}\.?"),
    ("WDO", rf"((?:{_WORD}|{_JOINED}|{_CAPITALS})\.)[,;:]"),
    ("WD", rf"({_HYPHENATED}\.)[,;:]"),
    ("WD", _HYPHENATED),
    ("WDO", rf"({_FILE}+(?:\.{_FILE}+)*\.{_any(_FILE_TYPES)})[\s.?!,]"),
    # Markup, brackets spelled out, faces
    ("O", _MARKUP),
    ("O", r"&(?:amp|lt|gt|quot|[mn]dash|md|ht|tl|ur|lr|q[clr]|[oc]dq|#[0-9]+);|-[lr][rcs]b-"),
    ("O", rf"(?-i:({_FACE}))[^a-z0-9]"),
    ("WO", rf"(?-i:[-{_EYES}]_[-{_EYES}]|\([-{_EYES}][_.]?[-{_EYES}]\)|\([{_EYES}]-[{_EYES}`]\))"),
    # Runs of one mark
    ("O", r"-+|\.{3,5}|(?:\. ){2,4}\.|[?!]+|''|[`‘’“”‹›‚„‟]{1,2}|<<?|>>?|\*+|(?:\\\*){1,3}|_+|#+|@+"),
]
_STARTING = {kind: [re.compile(pattern, re.IGNORECASE) for kinds, pattern in _RULES if kind in kinds] for kind in "WDO"}

_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", ";", '"', "&quot;", "&mdash;", "&ndash;"])
_DASHES = frozenset(["--", "---", "----", "&md;", "٫", "٬", VANISHING, HYPHEN])
_CONTRACTIONS = frozenset(["'s", "'m", "'d", "'re", "'ve", "'ll", "n't", "n`t"])
_STRAIGHT = str.maketrans({"’": "'", "‘": "`", "“": "``", "”": "''", "‹": "`", "›": "'"})
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}


def tokens(text: str) -> Iterator[str]:
    """Yield the tokens of one line without punctuation, in lower case, in the tool's spelling."""
    text = text.replace("\xad", "").replace("&apos;", "'").replace("&nbsp;", " ")
    folded = fold(text) + "\n"  # rules may read one character beyond the end
    place = 0
    while place < len(text):
        if folded[place].isspace():
            place += 1
            continue
        end = _read(folded, place)
        yield from _spell(text[place:end].lower(), folded[place:end])
        place = end


def _read(text: str, place: int) -> int:
    """Return the end of the token that starts at ``place``."""
    first = text[place]
    kind = "W" if first.isalpha() else "D" if first.isdecimal() else "O"
    furthest = end = place + 1  # a character without a rule is a token
    for rule in _STARTING[kind]:
        match = rule.match(text, place)
        if match and match.end() > furthest:
            furthest = match.end()
            end = match.end(match.lastindex or 0)
    return end


def _spell(token: str, folded: str) -> list[str]:
    """Return the tool's spelling of a token without punctuation, split at blanks."""
    straight = folded.lower().translate(_STRAIGHT)
    if straight in _PUNCTUATION or straight in _DASHES or not folded.strip(". "):
        return []
    if token in SPELLED:
        return [SPELLED[token]]
    if straight in _CONTRACTIONS or not folded.strip("`‘’“”‹›‚„‟"):
        return [straight]
    if token in _ENTITIES:
        return [_ENTITIES[token]]
    if not re.search("[@/.]", token):  # addresses keep their entities
        token = token.replace("&amp;", "&")
    if not token.endswith(">"):  # markup keeps its brackets
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token.split()
