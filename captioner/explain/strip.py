"""An explanation as one picture: the photo, then one copy per word, bright where the model looked."""

from __future__ import annotations

import io
import math

from PIL import Image, ImageDraw, ImageFont

from captioner.explain.overlay import light, lit, on_photo, over_photo, reach
from captioner.explain.reading import Reading

TILE = 240  # pixels of a tile's longer side
A_ROW = 6  # tiles in a row
GAP, LABEL = 8, 40
INK, PAPER, MARK = (30, 30, 30), (255, 255, 255), (255, 210, 0)


def strip(reading: Reading) -> Image.Image:
    """Draw the picture. A ring marks centre and spread of the local attention, if there is any."""
    photo = Image.fromarray(reading.photo)
    photo.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    tiles = [(photo, "", "")]
    for i, word in enumerate(reading.words):
        tile = _tile(reading, i, photo)
        figures = f"p {reading.probabilities[i]:.2f}"
        if reading.gates is not None:
            figures += f"   global {reading.gates[i]:.0%}"
        tiles.append((tile, word, figures))
    across = min(A_ROW, len(tiles))
    step_x, step_y = photo.width + GAP, photo.height + LABEL + GAP
    sheet = Image.new("RGB", (GAP + across * step_x, GAP + math.ceil(len(tiles) / across) * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    fonts = ImageFont.load_default(17), ImageFont.load_default(12)
    for i, (tile, word, figures) in enumerate(tiles):
        x, y = GAP + i % across * step_x, GAP + i // across * step_y
        sheet.paste(tile, (x, y))
        draw.text((x, y + tile.height + 1), _cut(word, fonts[0], photo.width), INK, fonts[0])
        draw.text((x, y + tile.height + 22), _cut(figures, fonts[1], photo.width), INK, fonts[1])
    return sheet


def png(reading: Reading) -> bytes:
    """Return the bytes of ``strip`` as a PNG file with the caption in its metadata."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("Description", reading.caption)
    out = io.BytesIO()
    strip(reading).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def _tile(reading: Reading, i: int, photo: Image.Image) -> Image.Image:
    import numpy as np

    brightness = light(over_photo(reading.maps[i], reading.view, photo.size))
    tile = Image.fromarray(lit(np.asarray(photo), brightness))
    if reading.centres is not None and reading.spreads is not None:
        (x, y), (rx, ry) = on_photo(reading.centres[i], reading.view), reach(float(reading.spreads[i]), reading.view)
        x, rx, y, ry = x * photo.width, rx * photo.width, y * photo.height, ry * photo.height
        draw = ImageDraw.Draw(tile)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), outline=MARK)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=MARK)
    return tile


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten the text with an ellipsis to ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
