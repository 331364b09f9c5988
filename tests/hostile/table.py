"""The table of hard input: damaged, odd or hostile files, and their outcomes.

``python tests/hostile/table.py`` writes it into docs/hard-input.md; a test fails if that is out of date.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from case import Case
from files import cut, kinds, lies, metadata, sizes
from inside import addresses, inside
from places import names, places

_KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WebP"}


@cache
def cases() -> tuple[Case, ...]:
    return (*cut(), *sizes(), *kinds(), *metadata(), *lies(), *names(), *places(), *inside(), *addresses())


def build(top: Path) -> list[str]:
    """Write all files below a folder, and return the command's arguments: the folder, archives, addresses."""
    given = []
    for case in cases():
        path = top / case.archive[0] if case.archive else top / case.name
        if case.archive:
            given.append(str(path))
        elif is_address(case.name):
            given.append(case.name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.archive[1]) if case.archive else case.make(path)
    return [str(top), *given]


def is_address(name: str) -> bool:
    return name.startswith("http") and "/" in name[:8]


def markdown() -> str:
    """Return the table of the documentation; truncated files with the same outcome share a row."""
    sections: dict[tuple[str, str], list[str]] = {}
    rows = []
    for case in cases():
        if case.name.startswith("cut/"):
            name, section = case.name.rpartition("/")[2], case.what.partition("-")[0]
            found = sections.setdefault((name, case.outcome), [])
            found += [section] * (section not in found)
        else:
            rows.append(_row(case.shown or case.name, case.what, case.outcome))
    cut_off = [
        _row(
            f"cut/*/{name}",
            f"{_KINDS[name.rpartition('.')[2]]} that ends in the middle of its {' or '.join(found)}",
            said,
        )
        for (name, said), found in sections.items()
    ]
    return "\n".join(["| file | content | outcome |", "|---|---|---|", *cut_off, *rows]) + "\n"


def _row(name: str, what: str, outcome: str) -> str:
    said = outcome or "skipped: not a photo of this run, or already captioned"
    return f"| `{name.replace('|', chr(92) + '|').replace('`', chr(39))}` | {what} | {said} |"


def page(text: str) -> str:
    """Return the page with the new table between its marks."""
    before, start, rest = text.partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    assert start + end, "docs/hard-input.md has lost the marks around its table"
    return before + start + markdown() + end + after


if __name__ == "__main__":
    PAGE = Path(__file__).resolve().parents[2] / "docs" / "hard-input.md"
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
