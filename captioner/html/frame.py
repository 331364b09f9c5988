"""The frame of a page, and its sections, tables and lists: one file with style and script inside, without network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from captioner.version import __version__


class Markup(str):
    """A text that is HTML already; all other texts are escaped."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading. ``link``: its name in the navigation; without one it is left out there."""

    name: str  # the id
    title: str
    body: str  # HTML
    link: str = ""

    def __str__(self) -> str:
        """Return the HTML."""
        heading = f'<h2 id="{self.name}-h">{escape(self.title)}</h2>'
        return f'<section id="{self.name}" aria-labelledby="{self.name}-h">\n{heading}\n{self.body}\n</section>'


def document(title: str, parts: Sequence[Section | Markup], *, heading: str | None = None, script: str = "") -> str:
    """Return the whole page. ``heading``: the text above all parts, by default the title; ``script``: JavaScript."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += "; script-src 'unsafe-inline'" if script else ""
    linked = [part for part in parts if isinstance(part, Section) and part.link]
    skip = navigation = ""
    if linked:
        skip = f'<a class="skip" href="#{linked[-1].name}">Skip to: {escape(linked[-1].link)}</a>\n'
        links = "".join(f'<li><a href="#{part.name}">{escape(part.link)}</a></li>' for part in linked)
        navigation = f'\n<nav aria-label="Parts of this page"><ul>\n{links}\n</ul></nav>'
    lines = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{escape(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>",
        f"{skip}<header>\n<h1>{escape(title if heading is None else heading)}</h1>{navigation}\n</header>\n<main>",
        *map(str, parts),
        f"</main>\n<footer><p>Made by captioner {escape(__version__)}. This file needs no network.</p></footer>",
        *([f"<script>\n{script}</script>"] if script else []),
        "</body>\n</html>\n",
    ]
    return "\n".join(lines)


def asset(name: str, package: str = "captioner.html") -> str:
    """Return the text of a file that is part of the package."""
    return (files(package) / name).read_text(encoding="utf-8")


def html_of(text: object) -> str:
    """Return a value as HTML: ``Markup`` unchanged, anything else escaped."""
    return text if isinstance(text, Markup) else escape(str(text))


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], *, columns: str = "", label: str | None = None
) -> Markup:
    """Return a table that scrolls on a narrow screen, also by keyboard. The first cell of a row is its heading.

    ``columns``: a letter per column, ``l`` for text and ``r`` for numbers; by default the first is text, the others are
    numbers. ``label``: the name of the region, by default the caption.
    """
    sides = columns or "l" + "r" * (len(heads) - 1)
    head = "".join(
        f'<th scope="col" class="{side}">{escape(text)}</th>' for text, side in zip(heads, sides, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row" class="{sides[0]}">{html_of(first)}</th>'
        + "".join(f'<td class="{side}">{html_of(cell)}</td>' for cell, side in zip(cells, sides[1:], strict=True))
        + "</tr>"
        for first, *cells in rows
    )
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption if label is None else label)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bullets(items: Iterable[str], kind: str = "statements") -> Markup:
    """Return a list; ``kind`` is its class in the style."""
    return Markup(f'<ul class="{kind}">{"".join(f"<li>{html_of(item)}</li>" for item in items)}</ul>')


def folded(summary: str, items: Iterable[str]) -> Markup:
    """Return a list that opens by a click on its summary."""
    listed = "".join(f"<li>{html_of(item)}</li>" for item in items)
    return Markup(f"<details><summary>{escape(summary)}</summary><ul>{listed}</ul></details>")
