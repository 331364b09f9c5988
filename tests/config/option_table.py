"""The places that repeat the options of generation: the table in docs/generation.md, the keys of ``GenerationOptions``.

``python tests/config/option_table.py`` writes both from the fields that declare the options; a test fails if one is out
of date.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Literal

from captioner.config import GenerationOption, generation_options

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "generation.md"
CODE = ROOT / "captioner" / "captioning" / "captions.py"


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


def keys() -> str:
    """Return the keys of ``GenerationOptions``: a line per option, with the values that a keyword argument takes."""
    return "".join(f"    {name}: {_type(known.hint)} | None\n" for name, known in generation_options().items())


def _type(hint: Any) -> str:
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if type(None) in typing.get_args(hint):
        return _type(kinds[0])
    if typing.get_origin(hint) is Literal:
        return "str"
    if hint == tuple[str, ...]:
        return "str | Sequence[str]"
    return f"Mapping[{', '.join(kind.__name__ for kind in kinds)}]" if kinds else hint.__name__


def page(text: str) -> str:
    """Return the page with the new table between its marks."""
    return _filled(text, "<!-- table -->\n", markdown(), "<!-- end of table -->\n")


def code(text: str) -> str:
    """Return the module with the new keys between their marks."""
    return _filled(text, "    # keys\n", keys(), "    # end of keys\n")


def _filled(text: str, start: str, content: str, end: str) -> str:
    before, opening, rest = text.partition(start)
    _, closing, after = rest.partition(end)
    assert opening, f"the mark {start!r} is missing"
    assert closing, f"the mark {end!r} is missing"
    return before + start + content + end + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    CODE.write_text(code(CODE.read_text(encoding="utf-8")), encoding="utf-8")
