"""The table of the options of generation in docs/generation.md.

``python tests/config/option_table.py`` writes it into the page; a test fails if that is out of date.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Literal

from captioner.config import GenerationOption, generation_options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "generation.md"


def markdown() -> str:
    """Return the table: a row per option, from the field that declares it."""
    rows = ["| option | in Python | values | default | meaning |", "|---|---|---|---|---|"]
    for name, known in generation_options().items():
        flags = [*filter(None, (known.option.alias,)), name.replace("_", "-")]
        flag = " ".join(filter(None, (", ".join(f"--{each}" for each in reversed(flags)), known.option.metavar)))
        paper = f" ({known.option.paper})" if known.option.paper else ""
        cells = (f"`{flag}`", f"`{name}`", _values(known), _default(known.default), known.option.help + paper)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _values(known: GenerationOption) -> str:
    kind: Any = known.hint
    if type(None) in typing.get_args(kind):
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if known.option.values:
        return known.option.values
    if kind in (int, float):
        noun = "whole number" if kind is int else "number"
        return f"{noun}, {known.option.limits.removeprefix('a number ')}"
    if kind is bool:
        return "yes or no (`--no-...`)"
    return "text" if kind is str else "words or phrases"


def _default(default: object) -> str:
    if default is None or default is False:
        return "off"
    if isinstance(default, float):
        return f"{default:g}"
    return "empty" if default in ("", (), {}) else str(default)


def page(text: str) -> str:
    """Return the page with the new table between its marks."""
    before, start, rest = text.partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    assert start + end, "docs/generation.md has lost the marks around its table"
    return before + start + markdown() + end + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
