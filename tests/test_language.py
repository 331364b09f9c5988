"""Plain English: docstrings begin with a verb or a noun phrase, and prose uses the field's words (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(
    path for folder in ("captioner", "scripts", "tests", "datasets") for path in (ROOT / folder).rglob("*.py")
)
PROSE = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "datasets").rglob("*.md")])

OPENINGS = {
    "As",
    "For",
    "How",
    "If",
    "In",
    "Of",
    "That",
    "Those",
    "To",
    "What",
    "When",
    "Where",
    "Whether",
    "Which",
    "Who",
}
RIDDLES = re.compile(
    r"""\b(?:
      go(?:es|ing|ne)?\ on\ (?:with|where|after)  # resume
    | (?:has|have)\ no\ more
    | (?:is|are|be)\ had
    | such\ as\ (?:it|they)\ (?:is|are)
    | writ(?:e|es|ten|ing)\ ahead                  # speculative decoding, draft
    | likeness
    | come(?:s)?\ by
    | unlike\ zero
    | (?:is|are|was|were)\ told                    # a value, a message, an argument
    | gives?\ way
    | (?:is|are|was|were)\ let\ go               # freed
    | of\ no\ use
    | data\ sets?                                 # dataset
    | likel(?:ier|iest)                           # more, most probable
    | there(?:of|in|by|upon) | where(?:of|in|by|upon) | here(?:of|in|by) | hitherto | lest | aught
    )\b
    | (?-i:(?:^|[.;:]\s)Of\s)                     # inverted word order
    """,
    re.VERBOSE | re.IGNORECASE,
)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield comments, and strings of several words: help texts, error sentences, and parts of them."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
            yield node.lineno, node.value


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=name)
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    first = {line: text.split()[0].strip(",;:") for line, text in docstrings(path)}
    assert not {line: word for line, word in first.items() if word in OPENINGS}


@pytest.mark.parametrize("path", CODE, ids=name)
def test_docstrings_use_the_words_of_the_field(path: Path) -> None:
    found = [(line, match[0]) for line, text in docstrings(path) for match in RIDDLES.finditer(text)]
    assert not found


@pytest.mark.parametrize("path", [path for path in CODE if "tests" not in path.parts], ids=name)
def test_comments_help_and_errors_use_the_words_of_the_field(path: Path) -> None:
    found = [(line, match[0]) for line, text in texts(path) for match in RIDDLES.finditer(text)]
    assert not found


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_documents_use_the_words_of_the_field(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert not [(number, match[0]) for number, line in lines for match in RIDDLES.finditer(line)]
