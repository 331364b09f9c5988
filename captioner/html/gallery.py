"""A section of images with their captions, which ``gallery.js`` sorts and filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from captioner.html.frame import Markup, Section, asset, document
from captioner.metrics.diversity import repeats

MOST = 1000  # images in a page: about 9 MB


def gallery_page(title: str, parts: Sequence[Section], gallery: Section) -> str:
    """Return a page that ends with a gallery."""
    return document(f"Captions: {title}", [*parts, gallery], script=asset("gallery.js"))


def gallery(cards: Iterable[str], status: str, *, orders: Mapping[str, str], flags: Mapping[str, str]) -> Section:
    """Return the section of images with controls for sorting and filtering; the first of ``orders`` is the default.

    ``status``: a text with the number of images. ``gallery.js`` defines orders and flags.
    """
    items = "\n".join(cards)
    body = (
        '<form id="controls" role="search" aria-label="Sort and filter the images">\n'
        f'<label>Order <select id="order">{_options(orders)}</select></label>\n'
        f'<label>Show <select id="flag">{_options({"": "all", **flags})}</select></label>\n'
        '<label>Containing <input id="text" type="search" autocomplete="off" spellcheck="false"></label>\n</form>\n'
        f'<p id="status" role="status">{escape(status)}</p>\n<ol id="cards" class="cards">\n{items}\n</ol>\n'
        '<button id="more" type="button" hidden>Show more</button>'
    )
    return Section(name="gallery", title="Images", body=body, link="Images")


def card(
    caption: str,
    words: Sequence[str],
    picture: Markup,
    *,
    name: str,
    details: str,
    figures: Mapping[str, float],
    more: str = "",
) -> str:
    """Return the list item of an image; the page sorts and filters by ``figures``, words and flags.

    ``picture`` and ``more`` are HTML, all other arguments are text.
    """
    flags = " ".join(flag for flag, applies in (("repeats", repeats(words)), ("empty", not words)) if applies)
    data = f'data-length="{len(words)}" data-flags="{flags}"'
    data += "".join(f' data-{figure}="{value:.4f}"' for figure, value in figures.items())
    return (
        f'<li class="card" {data}><article>{picture}<div><p class="said">{escape(caption) or "<em>nothing</em>"}</p>'
        f'<p class="score">{escape(details)}</p>{more}'
        f'<p class="name">{escape(name)}</p></div></article></li>'
    )


def _options(named: Mapping[str, str]) -> str:
    return "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in named.items())
