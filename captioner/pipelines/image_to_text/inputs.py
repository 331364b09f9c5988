"""The pipeline's inputs: single images, lists, generators and datasets."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

from PIL import Image

from captioner.data.arrays import is_array
from captioner.data.connections import Reach
from captioner.data.images import ImageSource
from captioner.data.items import Item
from captioner.data.urls import TIMEOUT, is_url, of_url
from captioner.errors import UsageError

Given: TypeAlias = ImageSource | Mapping[str, Any]
"""An image, or a row of a dataset: its ``image``, or else its only value."""

# First characters of files in base64: JPEG, PNG, GIF, WebP, TIFF (two byte orders), BMP, AVIF and HEIC.
_BEGINNINGS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk", "AAAA")


@runtime_checkable
class Indexed(Protocol):
    """A dataset in torch's sense, with a length and items by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def is_one(given: object) -> TypeGuard[Given]:
    """Return whether ``given`` is one image."""
    kinds = str, bytes, bytearray, os.PathLike, Image.Image, Mapping, Item
    return isinstance(given, kinds) or hasattr(given, "read") or is_array(given)


def each(given: Iterable[Any] | Indexed) -> Iterator[Any]:
    """Iterate over the items. Raises ``UsageError`` for inputs that are not iterable."""
    if isinstance(given, Iterable):
        return iter(given)
    if isinstance(given, Indexed):  # not ``iter``, which waits for an IndexError that may never come
        return (given[index] for index in range(len(given)))
    raise UsageError(
        f"images are a path, URL, PIL image, base64 string or bytes, or a list, generator or dataset of them, not a "
        f"{type(given).__name__}"
    )


def image_of(given: Any, timeout: float | None = None, *, reach: Reach = "named") -> ImageSource:
    """Return one image as ``open_image`` takes it; ``timeout`` in seconds limits the whole download of a URL.

    A string is a URL, a data URL, a file name, or base64, in that order. URLs in the rows of a dataset may only lead to
    the public internet, since others wrote them, unless ``reach`` is ``private``.
    """
    if isinstance(given, Mapping):
        return image_of(_in_row(given), timeout, reach="public" if reach == "named" else reach)
    if not isinstance(given, str):
        image: ImageSource = given  # ``open_image`` raises if it is not an image
        return image
    if is_url(given):
        return of_url(given, reach=reach, timeout=TIMEOUT if timeout is None else timeout)
    if given.startswith("data:image/"):
        return _decoded(given.partition(",")[2]) or b""
    if given.startswith(_BEGINNINGS) and not os.path.exists(given):
        return _decoded(given) or given
    return given


def _in_row(row: Mapping[str, Any]) -> Any:
    if row.keys() == {"bytes", "path"}:  # an image column of ``datasets`` with decode=False
        return row["bytes"] if row["bytes"] is not None else row["path"]
    if "image" in row:
        return row["image"]
    if len(row) == 1:
        return next(iter(row.values()))
    raise UsageError(
        f"a row with {', '.join(map(repr, row))} has no column 'image'; rename the image's column to 'image', or pass "
        "that column alone, as transformers' KeyDataset does"
    )


def _decoded(text: str) -> bytes:
    """Decode base64; return no bytes for invalid text."""
    try:
        return base64.b64decode("".join(text.split()) + "==", validate=False)
    except (binascii.Error, ValueError):
        return b""
