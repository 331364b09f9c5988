"""An explanation as one picture: the photo, then one copy per word, bright where the model looked."""

from __future__ import annotations

import functools
import io
import math
import os
import warnings

from PIL import Image, ImageDraw, ImageFont

from captioner.explain.overlay import light, lit, on_photo, over_photo, reach
from captioner.explain.reading import Reading

TILE = 240  # pixels of a tile's longer side
A_ROW = 6  # tiles in a row
GAP, LABEL = 8, 40
INK, PAPER, MARK = (30, 30, 30), (255, 255, 255), (255, 210, 0)
FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
FONTS = (  # Pillow's own has the letters of English only; the first are of most scripts, the others of Chinese too
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc", "msyh.ttc", "simsun.ttc", "Arial Unicode.ttf"),
)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def strip(reading: Reading) -> Image.Image:
    """Draw the picture. A ring marks centre and spread of the local attention, if there is any.

    Words that no font of this machine can write are numbered, with a warning.
    """
    photo = Image.fromarray(reading.photo)
    photo.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    small = ImageFont.load_default(12)
    tiles = [(photo, "", small, "")]
    unwritten = []
    for i, word in enumerate(reading.words):
        tile, font = _tile(reading, i, photo), _font_of(word, 17)
        if font is None:
            unwritten.append(word)
            word, font = f"word {i + 1}", ImageFont.load_default(17)
        figures = f"p {reading.probabilities[i]:.2f}"
        if reading.gates is not None:
            figures += f"   global {reading.gates[i]:.0%}"
        tiles.append((tile, word, font, figures))
    if unwritten:
        warnings.warn(
            f"no font of this machine can write {', '.join(unwritten)}, so the .png numbers such words; save the "
            ".html, or install a font such as Noto Sans CJK",
            stacklevel=2,
        )
    across = min(A_ROW, len(tiles))
    step_x, step_y = photo.width + GAP, photo.height + LABEL + GAP
    sheet = Image.new("RGB", (GAP + across * step_x, GAP + math.ceil(len(tiles) / across) * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (tile, word, font, figures) in enumerate(tiles):
        x, y = GAP + i % across * step_x, GAP + i // across * step_y
        sheet.paste(tile, (x, y))
        draw.text((x, y + tile.height + 1), _cut(word, font, photo.width), INK, font)
        draw.text((x, y + tile.height + 22), _cut(figures, small, photo.width), INK, small)
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


def _font_of(text: str, size: int) -> Font | None:
    """Return the first font that has all glyphs of ``text``: Pillow's own, or one of the system; None if none has."""
    own = ImageFont.load_default(size)
    if _writes(own, text):
        return own
    for path in _system_fonts():
        try:
            font = ImageFont.truetype(path, size)
        except OSError:  # damaged
            continue
        if _writes(font, text):
            return font
    return None


def _writes(font: Font, text: str) -> bool:
    missing = bytes(font.getmask("\U0010ffff"))  # no character, so that its box is drawn
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) - {" "})


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Return the paths of those of ``FONTS`` that this machine has, in their order."""
    places = (place for folder in FOLDERS for place in os.walk(os.path.expanduser(folder)))
    found = {name: os.path.join(folder, name) for folder, _, names in places for name in names if name in FONTS}
    return tuple(found[name] for name in FONTS if name in found)


def _cut(text: str, font: Font, width: int) -> str:
    """Shorten the text with an ellipsis to ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
