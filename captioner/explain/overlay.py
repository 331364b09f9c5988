"""Attention maps over a photo: resized to it and shown as brightness."""

from __future__ import annotations

import numpy as np
from PIL import Image

from captioner.data.transforms import View
from captioner.explain.reading import Array

DARKEST = 0.25  # brightness of the photo without attention


def over_photo(values: Array, view: View, size: tuple[int, int]) -> Array:
    """Resize a map (h, w) bicubically to a photo of ``size`` (width, height); 0 outside the model's view.

    Returns (height, width), not renormalised: each pixel has about the value of its patch.
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
    """Scale a map to brightness: the square root of its value between minimum (0) and maximum (1).

    Without the root, a single strong patch leaves the others dark. A constant map is bright everywhere.
    """
    lowest, highest = values.min(), values.max()
    return np.sqrt((values - lowest) / (highest - lowest)) if highest > lowest else np.ones_like(values)


def lit(photo: Array, brightness: Array) -> Array:
    """Darken the photo (height, width, 3) where ``brightness`` is below 1; uint8."""
    factor = DARKEST + (1 - DARKEST) * brightness[..., None]  # (height, width, 1)
    return np.rint(photo * factor).astype(np.uint8)


def on_photo(centre: Array, view: View) -> tuple[float, float]:
    """Convert a point (row, column) of the model's square to (x, y) of the photo, 0 to 1 or outside it."""
    (pl, pt, pr, pb), (sl, st, sr, sb) = view.photo, view.square
    x = pl + (float(centre[1]) - sl) / (sr - sl) * (pr - pl)
    y = pt + (float(centre[0]) - st) / (sb - st) * (pb - pt)
    return x, y


def reach(spread: float, view: View) -> tuple[float, float]:
    """Convert a length in the model's square to (width, height) in shares of the photo."""
    (pl, pt, pr, pb), (sl, st, sr, sb) = view.photo, view.square
    return spread * (pr - pl) / (sr - sl), spread * (pb - pt) / (sb - st)
