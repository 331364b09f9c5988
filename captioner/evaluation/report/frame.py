"""The template of a page, ``page.html``, with its style and script inside, and its section of images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from captioner.version import __version__


def frame(title: str, links: Mapping[str, str], body: str) -> str:
    """Return the whole document. ``links``: titles of the sections in ``body``, by id."""
    package = files("captioner.evaluation.report")
    return Template((package / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        version=escape(__version__),
        style=(package / "page.css").read_text(encoding="utf-8"),
        script=(package / "page.js").read_text(encoding="utf-8"),
        links="".join(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in links.items()),
        body=body,
    )


def section(name: str, title: str, body: str) -> str:
    """Return a section of the page with the id ``name``."""
    heading = f'<h2 id="{name}-h">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">\n{heading}\n{body}\n</section>'


def images(cards: str, status: str, *, orders: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """Return the section of images with controls for sorting and filtering; the first of ``orders`` is the default.

    ``status``: a text with the number of images. ``page.js`` defines orders and flags.
    """
    body = (
        '<form id="controls" role="search" aria-label="Sort and filter the images">\n'
        f'<label>Order <select id="order">{_options(orders)}</select></label>\n'
        f'<label>Show <select id="flag">{_options({"": "all", **flags})}</select></label>\n'
        '<label>Containing <input id="text" type="search" autocomplete="off" spellcheck="false"></label>\n</form>\n'
        f'<p id="status" role="status">{escape(status)}</p>\n<ol id="cards" class="cards">\n{cards}\n</ol>\n'
        '<button id="more" type="button" hidden>Show more</button>'
    )
    return section("gallery", "Images", body)


def _options(named: Mapping[str, str]) -> str:
    return "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in named.items())
