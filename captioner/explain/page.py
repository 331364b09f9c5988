"""An explanation as one self-contained HTML page that highlights the attention of the hovered or focused word.

It works offline, by keyboard (words are buttons) and with a screen reader (each word describes in text where the model
looked; a table holds all figures).
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from captioner.explain.overlay import DARKEST, light, on_photo, over_photo, reach
from captioner.explain.reading import Array, Reading
from captioner.html.frame import Markup, asset, document, table
from captioner.html.pictures import data_uri, jpeg

PHOTO, VEIL = 1024, 64  # longest sides of photo and overlay in pixels; the browser smooths the overlay
READS = {"maps": "all attention", "global_maps": "global attention", "local_maps": "local attention"}
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def page(reading: Reading) -> str:
    """Return the HTML file."""
    kinds = [name for name in READS if getattr(reading, name) is not None]
    if reading.local_maps is None or reading.global_maps is None:
        kinds = ["maps"]  # only one kind of attention
    veils = {name: [veil(m, reading) for m in getattr(reading, name)] for name in kinds}
    data = json.dumps({"veils": veils, "aims": _all_aims(reading)}).replace("<", "\\u003c")
    words = "\n".join(_word(reading, i) for i in range(len(reading.words)))
    photo = jpeg(Image.fromarray(reading.photo), PHOTO, quality=88)
    body = [
        f"<ul class='sentence' aria-label='The caption, word by word'>\n{words}\n</ul>",
        f"<figure class='photo' style='--ratio: {photo.width / photo.height:.4f}'>\n{photo.tag(reading.caption)}",
        "<img id='veil' alt='' hidden>\n<div id='clip'><div id='aim' hidden></div></div>\n</figure>",
        "<p id='said'>Point at a word, or move to it with the tab key. The bar below a word is its probability.</p>",
        _labels(reading),
        _choice(kinds),
        _table(reading),
        f"<p>{escape(_notes(reading))}</p>",
        f"<script type='application/json' id='data'>{data}</script>",
    ]
    script = asset("page.js", "captioner.explain")
    parts = [Markup("\n".join(part for part in body if part))]
    return document(reading.caption, parts, heading="Where the model looked for each word", script=script)


def where(values: Array) -> str:
    """Name the ninth of the image with the largest share of a map (h, w), or none if the map is spread out."""
    h, w = values.shape
    rows, columns = ((np.arange(n) + 0.5) * 3 // n for n in (h, w))
    shares = np.zeros((3, 3))
    np.add.at(shares, (rows.astype(int)[:, None], columns.astype(int)[None, :]), values)
    row, column = divmod(int(shares.argmax()), 3)
    if shares[row, column] < 1.5 * values.sum() / 9:
        return "all over the photo"
    name = "centre" if (row, column) == (1, 1) else f"{_ROWS[row]} {_COLUMNS[column]}"
    return f"most at the {name} ({shares[row, column]:.0%})"


def veil(values: Array, reading: Reading) -> str:
    """Return a black overlay, more transparent where the attention is stronger."""
    height, width = reading.photo.shape[:2]
    scale = min(1.0, VEIL / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = np.rint(255 * (1 - DARKEST) * (1 - light(over_photo(values, reading.view, size)))).astype(np.uint8)
    black = np.zeros_like(alpha)
    return data_uri(Image.fromarray(np.stack([black, alpha], -1), "LA"), "PNG")


def _word(reading: Reading, i: int) -> str:
    text = f"looked {where(reading.maps[i])}; probability {reading.probabilities[i]:.0%}"
    if reading.gates is not None:
        text += f"; {reading.gates[i]:.0%} of the attention was global"
    gauge = f"<i style='width:{reading.probabilities[i]:.0%}'></i>"
    return (
        f"<li><button type='button' data-word='{i}' aria-pressed='false' aria-describedby='said{i}'>"
        f"{escape(reading.words[i])}{gauge}</button><span class='quiet' id='said{i}'>{escape(text)}</span></li>"
    )


def _choice(kinds: list[str]) -> str:
    if len(kinds) == 1:
        return ""
    options = "".join(
        f"<label><input type='radio' name='read' value='{kind}'{' checked' if kind == 'maps' else ''}> "
        f"{escape(READS[kind])}</label>"
        for kind in kinds
    )
    return f"<fieldset><legend>Show</legend>{options}</fieldset>"


def _labels(reading: Reading) -> str:
    if not reading.labels:
        return ""
    named = ", ".join(f"{escape(label.text)} {label.probability:.0%}" for label in reading.labels)
    return f"<p>Labels of the photo: {named}</p>"


def _table(reading: Reading) -> Markup:
    heads = ["word", "probability", "where the model looked", "entropy, bits"]
    if reading.gates is not None:
        heads.append("global share")
    if reading.centres is not None:
        heads += ["local centre, x y", "local spread"]
    if reading.off_grid.any():
        heads.append("off the grid")
    rows = [_row(reading, i) for i in range(len(reading.words))]
    return table("All figures", heads, rows, columns="lrl" + "r" * (len(heads) - 3))


def _row(reading: Reading, i: int) -> list[str]:
    cells = [reading.words[i], f"{reading.probabilities[i]:.1%}", where(reading.maps[i]), f"{reading.entropies[i]:.2f}"]
    if reading.gates is not None:
        cells.append(f"{reading.gates[i]:.0%}")
    if reading.centres is not None and reading.spreads is not None:
        row, column = reading.centres[i]
        cells += [f"{column:.2f} {row:.2f}", f"{reading.spreads[i]:.2f}"]
    if reading.off_grid.any():
        cells.append(f"{reading.off_grid[i]:.0%}")
    return cells


def _notes(reading: Reading) -> str:
    h, w = reading.grid
    text = f"The model sees {h} x {w} patches. Brightness is scaled between a word's least and most attended patch. The"
    text += f" entropy measures the spread of attention: 0 bits is one patch, {np.log2(h * w):.2f} all patches equally."
    if reading.gates is not None:
        text += " The global share is the part of the attention that is not tied to a point. The ring shows that point"
        text += " and the spread of the local attention around it."
    return text


def _all_aims(reading: Reading) -> list[dict[str, Any]]:
    """Return centre and extent of the local attention by word, in shares of the photo."""
    if reading.centres is None or reading.spreads is None:
        return []
    aims = []
    for centre, spread in zip(reading.centres, reading.spreads, strict=True):
        (x, y), (rx, ry) = on_photo(centre, reading.view), reach(float(spread), reading.view)
        aims.append({"x": round(x, 4), "y": round(y, 4), "rx": round(rx, 4), "ry": round(ry, 4)})
    return aims
