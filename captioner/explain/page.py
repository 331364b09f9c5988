"""An explanation as one self-contained page: a word under the pointer or the focus lights what was read for it.

Works without network; with the keyboard (words are buttons) and a screen reader (each word says in text where the model
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

PHOTO, VEIL = 1024, 64  # longest sides, in pixels, of the photo and of what is laid over it; the browser smooths
READS = {"maps": "all that was read", "global_maps": "global read", "local_maps": "local read"}
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def page(found: Reading) -> str:
    """The whole HTML file."""
    kinds = [name for name in READS if getattr(found, name) is not None]
    if found.local_maps is None or found.global_maps is None:
        kinds = ["maps"]  # one kind of read only: what was read is that one
    veils = {name: [_veil(m, found) for m in getattr(found, name)] for name in kinds}
    template = files("captioner.explain").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "caption": escape(found.caption),
        "photo": _photo(found),
        "ratio": f"{found.photo.shape[1] / found.photo.shape[0]:.4f}",
        "words": "\n".join(_word(found, i) for i in range(len(found.words))),
        "reads": _choice(kinds),
        "head": "".join(f"<th scope='col'>{name}</th>" for name in _columns(found)),
        "rows": "\n".join(_row(found, i) for i in range(len(found.words))),
        "labels": _labels(found),
        "notes": escape(_notes(found)),
        "data": json.dumps({"veils": veils, "aims": _all_aims(found)}).replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], template)  # in one pass: a caption may hold such a mark


def where(values: Array) -> str:
    """The ninth of the image that a map (h, w) lies in most, in words, with its share; or that it lies nowhere more."""
    h, w = values.shape
    rows, columns = ((np.arange(n) + 0.5) * 3 // n for n in (h, w))
    shares = np.zeros((3, 3))
    np.add.at(shares, (rows.astype(int)[:, None], columns.astype(int)[None, :]), values)
    row, column = divmod(int(shares.argmax()), 3)
    if shares[row, column] < 1.5 * values.sum() / 9:
        return "all over the photo"
    name = "centre" if (row, column) == (1, 1) else f"{_ROWS[row]} {_COLUMNS[column]}"
    return f"most at the {name} ({shares[row, column]:.0%})"


def _veil(values: Array, found: Reading) -> str:
    """What darkens the photo where little was read: black, as transparent as the read was strong."""
    height, width = found.photo.shape[:2]
    scale = min(1.0, VEIL / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = np.rint(255 * (1 - DARKEST) * (1 - light(over_photo(values, found.view, size)))).astype(np.uint8)
    black = np.zeros_like(alpha)
    return _data_uri(Image.fromarray(np.stack([black, alpha], -1), "LA"), "PNG")


def _photo(found: Reading) -> str:
    photo = Image.fromarray(found.photo)
    photo.thumbnail((PHOTO, PHOTO), Image.Resampling.LANCZOS)
    return _data_uri(photo, "JPEG")


def _data_uri(image: Image.Image, form: str) -> str:
    out = io.BytesIO()
    image.save(out, form, quality=88)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _word(found: Reading, i: int) -> str:
    said = f"looked {where(found.maps[i])}; probability {found.probabilities[i]:.0%}"
    if found.gates is not None:
        said += f"; {found.gates[i]:.0%} of the read was global"
    gauge = f"<i style='width:{found.probabilities[i]:.0%}'></i>"
    return (
        f"<li><button type='button' data-word='{i}' aria-pressed='false' aria-describedby='said{i}'>"
        f"{escape(found.words[i])}{gauge}</button><span class='quiet' id='said{i}'>{escape(said)}</span></li>"
    )


def _choice(kinds: list[str]) -> str:
    if len(kinds) == 1:
        return ""
    options = "".join(
        f"<label><input type='radio' name='read' value='{kind}'{' checked' if kind == 'maps' else ''}> "
        f"{escape(READS[kind])}</label>"
        for kind in kinds
    )
    return f"<fieldset><legend>Light what belongs to</legend>{options}</fieldset>"


def _labels(found: Reading) -> str:
    if not found.labels:
        return ""
    named = ", ".join(f"{escape(label.text)} {label.probability:.0%}" for label in found.labels)
    return f"<p>Labels of the photo: {named}</p>"


def _columns(found: Reading) -> list[str]:
    names = ["word", "probability", "where the model looked", "entropy, bits"]
    if found.gates is not None:
        names.append("global share")
    if found.centres is not None:
        names += ["local centre, x y", "local spread"]
    if found.off_grid.any():
        names.append("off the grid")
    return names


def _row(found: Reading, i: int) -> str:
    cells = [f"{found.probabilities[i]:.1%}", where(found.maps[i]), f"{found.entropies[i]:.2f}"]
    if found.gates is not None:
        cells.append(f"{found.gates[i]:.0%}")
    if found.centres is not None and found.spreads is not None:
        row, column = found.centres[i]
        cells += [f"{column:.2f} {row:.2f}", f"{found.spreads[i]:.2f}"]
    if found.off_grid.any():
        cells.append(f"{found.off_grid[i]:.0%}")
    body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr><th scope='row'>{escape(found.words[i])}</th>{body}</tr>"


def _notes(found: Reading) -> str:
    h, w = found.grid
    text = f"The model sees {h} x {w} patches. Light is stretched between a word's least and most read ones; how evenly"
    text += f" the read was spread, its entropy says: 0 bits is one patch, {np.log2(h * w):.2f} all of them alike."
    if found.gates is not None:
        text += " The global share says how much of the read came from anywhere in the photo rather than from near a"
        text += " point that the model chose; the ring shows that point and how far it reaches."
    return text


def _all_aims(found: Reading) -> list[dict[str, Any]]:
    """Centre and reach of the local reads by word, in shares of the photo."""
    if found.centres is None or found.spreads is None:
        return []
    aims = []
    for centre, spread in zip(found.centres, found.spreads, strict=True):
        (x, y), (rx, ry) = on_photo(centre, found.view), reach(float(spread), found.view)
        aims.append({"x": round(x, 4), "y": round(y, 4), "rx": round(rx, 4), "ry": round(ry, 4)})
    return aims
