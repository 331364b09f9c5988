"""A map on the photo: brought to its size, and shown as light on it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from captioner.data.transforms import View
from captioner.explain.reading import Array

DARKEST = 0.25  # of its brightness a photo keeps where nothing was read


def over_photo(values: Array, view: View, size: tuple[int, int]) -> Array:
    """A map (h, w) over a photo of this size (width, height): (height, width), bicubic, 0 where the model saw nothing.

    Not renormalised: each pixel has about the value of its patch.
    """
    width, height = size
    h, w = values.shape
    left, top, right, bottom = (round(part * side) for part, side in zip(view.photo, (width, height) * 2, strict=True))
    seen = max(1, right - left), max(1, bottom - top)
    within = tuple(part * side for part, side in zip(view.square, (w, h) * 2, strict=True))
    grown = Image.fromarray(values.astype(np.float32)).resize(seen, Image.Resampling.BICUBIC, within)
    out = np.zeros((height, width), np.float32)
    out[top : top + seen[1], left : left + seen[0]] = np.maximum(np.asarray(grown), 0)  # bicubic overshoots
    return out


def light(values: Array) -> Array:
    """A map as light: 0 at its lowest place, 1 at its highest, and the root of the way between.

    Without the root one patch that stands out leaves the rest in the dark. An even map is light everywhere.
    """
    lowest, highest = values.min(), values.max()
    return np.sqrt((values - lowest) / (highest - lowest)) if highest > lowest else np.ones_like(values)


def lit(photo: Array, brightness: Array) -> Array:
    """The photo (height, width, 3), full where ``brightness`` is 1 and nearly dark where it is 0; uint8."""
    factor = DARKEST + (1 - DARKEST) * brightness[..., None]  # (height, width, 1)
    return np.rint(photo * factor).astype(np.uint8)


def on_photo(centre: Array, view: View) -> tuple[float, float]:
    """A point of the model's square, (row, column), as (x, y) of the photo, 0 to 1; it may lie outside of it."""
    (pl, pt, pr, pb), (sl, st, sr, sb) = view.photo, view.square
    x = pl + (float(centre[1]) - sl) / (sr - sl) * (pr - pl)
    y = pt + (float(centre[0]) - st) / (sb - st) * (pb - pt)
    return x, y


def reach(spread: float, view: View) -> tuple[float, float]:
    """A length of the model's square as (width, height) of the photo's."""
    (pl, pt, pr, pb), (sl, st, sr, sb) = view.photo, view.square
    return spread * (pr - pl) / (sr - sl), spread * (pb - pt) / (sb - st)
