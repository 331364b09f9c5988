"""Images inside a page, as data URIs of bounded size."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from typing import Literal

from PIL import Image

from captioner.data.images import ImageSource, open_image
from captioner.errors import ImageError
from captioner.html.frame import Markup

SIDE = 176  # pixels of a thumbnail's longer side
Read = Callable[[], ImageSource]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image inside a page."""

    source: str  # a data URI
    width: int  # pixels
    height: int  # pixels

    def tag(self, description: str) -> Markup:
        """Return the image with its ``description`` as alternative text; empty if a text beside it says the same."""
        return Markup(
            f'<img src="{self.source}" width="{self.width}" height="{self.height}" alt="{escape(description)}" '
            'loading="lazy" decoding="async">'
        )


def tag(picture: Picture | None, description: str, *, gone: str = "This photo cannot be read.") -> Markup:
    """Return the image, or the text ``gone`` without a picture."""
    return Markup(f'<p class="gone">{escape(gone)}</p>') if picture is None else picture.tag(description)


def thumbnail(read: Read, side: int = SIDE) -> Picture | None:
    """Return the image from ``read`` as a JPEG with sides of at most ``side`` pixels; None for an unreadable image."""
    try:
        return jpeg(open_image(read(), min_side=side), side)
    except ImageError:
        return None


def thumbnails(reads: Iterable[Read]) -> list[Picture | None]:
    """Return ``thumbnail`` of each image, by four threads."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(thumbnail, reads))


def jpeg(image: Image.Image, side: int, *, quality: int = 70) -> Picture:
    """Return a JPEG of the image whose sides are at most ``side`` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return Picture(source=data_uri(small, "JPEG", quality=quality), width=small.width, height=small.height)


def data_uri(image: Image.Image, form: Literal["JPEG", "PNG"], *, quality: int = 70) -> str:
    """Return the file of an image as a data URI; ``quality`` concerns JPEG only."""
    file = io.BytesIO()
    image.save(file, form, quality=quality, optimize=form == "JPEG")
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
