"""Captions for a column of a table: a pandas or polars series of paths in, one of captions out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.data.connections import Reach
from captioner.data.urls import is_url, of_url
from captioner.errors import ImageError, UsageError
from captioner.pipelines import CaptionPipeline, GenerationOptions, load

if TYPE_CHECKING:
    from typing_extensions import Unpack

Series = TypeVar("Series")


def caption_series(
    images: Series,
    *,
    pipe: CaptionPipeline | None = None,
    model: str | os.PathLike[str] | None = None,
    batch_size: int = 16,
    allow_private: bool = False,
    **options: Unpack[GenerationOptions],
) -> Series:
    """``df["caption"] = captioner.caption_series(df["path"])``: a caption for each image, as a series of the same kind.

    The index is kept. What is missing stays missing, and so does the caption of an image that cannot be read, with a
    warning. ``pipe`` or else ``model`` captions, or else the model that ships; ``options`` are those of
    ``CaptionPipeline.caption``. URLs lead to the public internet alone unless ``allow_private``: a table may be of
    others' making. Raises ``UsageError`` for what is no series.
    """
    kind = type(images).__module__.partition(".")[0]
    if kind not in ("pandas", "polars") or not hasattr(images, "to_list"):
        raise UsageError(f"captions are made for a pandas or polars series, not for a {type(images).__name__}")
    if pipe is None:
        pipe = load(model)
    reach: Reach = "private" if allow_private else "public"
    given = [_image(image, reach) for image in images.to_list()]
    # pandas knows all of its kinds of nothing: pd.NA is neither true nor false, nor itself.
    missing = images.isna().to_list() if kind == "pandas" else [image is None for image in given]  # type: ignore[attr-defined]
    texts = list(_texts(given, missing, pipe, batch_size, options))
    if kind == "polars":
        import polars

        made: Any = polars.Series("caption", texts, dtype=polars.String)
    else:
        import pandas

        made = pandas.Series(texts, index=images.index, name="caption", dtype=None if any(texts) else "object")  # type: ignore[attr-defined]
    found: Series = made
    return found


def _image(cell: Any, reach: Reach) -> Any:
    return of_url(cell, reach=reach) if isinstance(cell, str) and is_url(cell) else cell


def _texts(
    images: list[Any], missing: list[bool], pipe: CaptionPipeline, batch_size: int, options: GenerationOptions
) -> Iterator[str | None]:
    there = (image for image, absent in zip(images, missing, strict=True) if not absent)
    captions = pipe.stream(there, batch_size=batch_size, **options)
    for absent in missing:
        found = None if absent else next(captions)
        if isinstance(found, ImageError):
            warnings.warn(str(found), stacklevel=4)
        yield found.text if found is not None and not isinstance(found, ImageError) else None
