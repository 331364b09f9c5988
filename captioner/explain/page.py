"""An explanation as one self-contained HTML page that highlights the attention of the hovered or focused word.

It works offline, by keyboard (words are buttons) and with a screen reader (each word describes in text where the model
looked; a table holds all figures).
"""

from __future__ import annotations

import base64
import io
import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from captioner.explain.overlay import DARKEST, light, on_photo, over_photo, reach
from captioner.explain.reading import Array, Reading

PHOTO, VEIL = 1024, 64  # longest sides of photo and overlay in pixels; the browser smooths the overlay
READS = {"maps": "all attention", "global_maps": "global attention", "local_maps": "local attention"}
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def page(reading: Reading) -> str:
    """Return the HTML file."""
    kinds = [name for name in READS if getattr(reading, name) is not None]
    if reading.local_maps is None or reading.global_maps is None:
        kinds = ["maps"]  # only one kind of attention
    veils = {name: [_veil(m, reading) for m in getattr(reading, name)] for name in kinds}
    template = files("captioner.explain").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "caption": escape(reading.caption),
        "photo": _photo(reading),
        "ratio": f"{reading.photo.shape[1] / reading.photo.shape[0]:.4f}",
        "words": "\n".join(_word(reading, i) for i in range(len(reading.words))),
        "reads": _choice(kinds),
        "head": "".join(f"<th scope='col'>{name}</th>" for name in _columns(reading)),
        "rows": "\n".join(_row(reading, i) for i in range(len(reading.words))),
        "labels": _labels(reading),
        "notes": escape(_notes(reading)),
        "data": json.dumps({"veils": veils, "aims": _all_aims(reading)}).replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], template)  # in one pass: captions may contain {{x}}


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


def _veil(values: Array, reading: Reading) -> str:
    """Return a black overlay, more transparent where the attention is stronger."""
    height, width = reading.photo.shape[:2]
    scale = min(1.0, VEIL / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = np.rint(255 * (1 - DARKEST) * (1 - light(over_photo(values, reading.view, size)))).astype(np.uint8)
    black = np.zeros_like(alpha)
    return _data_uri(Image.fromarray(np.stack([black, alpha], -1), "LA"), "PNG")


def _photo(reading: Reading) -> str:
    photo = Image.fromarray(reading.photo)
    photo.thumbnail((PHOTO, PHOTO), Image.Resampling.LANCZOS)
    return _data_uri(photo, "JPEG")


def _data_uri(image: Image.Image, form: str) -> str:
    out = io.BytesIO()
    image.save(out, form, quality=88)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


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


def _columns(reading: Reading) -> list[str]:
    names = ["word", "probability", "where the model looked", "entropy, bits"]
    if reading.gates is not None:
        names.append("global share")
    if reading.centres is not None:
        names += ["local centre, x y", "local spread"]
    if reading.off_grid.any():
        names.append("off the grid")
    return names


def _row(reading: Reading, i: int) -> str:
    cells = [f"{reading.probabilities[i]:.1%}", where(reading.maps[i]), f"{reading.entropies[i]:.2f}"]
    if reading.gates is not None:
        cells.append(f"{reading.gates[i]:.0%}")
    if reading.centres is not None and reading.spreads is not None:
        row, column = reading.centres[i]
        cells += [f"{column:.2f} {row:.2f}", f"{reading.spreads[i]:.2f}"]
    if reading.off_grid.any():
        cells.append(f"{reading.off_grid[i]:.0%}")
    body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr><th scope='row'>{escape(reading.words[i])}</th>{body}</tr>"


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
