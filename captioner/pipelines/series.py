"""Captions for a pandas or polars series of images."""

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
    """Return a caption for each image, as a series of the same kind with the same index.

    ::

        df["caption"] = captioner.caption_series(df["path"])

    images: Paths, URLs or anything else that ``CaptionPipeline.caption`` accepts. Missing values give missing
        captions, and so do images that cannot be read, with a warning.
    pipe, model: The pipeline, or the model to load; by default the shipped model.
    allow_private: Allow URLs of private networks. By default only the public internet, since others may have made the
        table.
    options: Options of ``CaptionPipeline.caption``.

    Raises ``UsageError`` unless ``images`` is a series.
    """
    kind = type(images).__module__.partition(".")[0]
    if kind not in ("pandas", "polars") or not hasattr(images, "to_list"):
        raise UsageError(f"images must be a pandas or polars series, not a {type(images).__name__}")
    if pipe is None:
        pipe = load(model)
    reach: Reach = "private" if allow_private else "public"
    cells = [_image(cell, reach) for cell in images.to_list()]
    # isna() handles all missing values of pandas; comparing fails, since pd.NA is neither true nor false.
    missing = images.isna().to_list() if kind == "pandas" else [cell is None for cell in cells]  # type: ignore[attr-defined]
    texts = list(_texts(cells, missing, pipe, batch_size, options))
    if kind == "polars":
        import polars

        captions: Any = polars.Series("caption", texts, dtype=polars.String)
    else:
        import pandas

        captions = pandas.Series(texts, index=images.index, name="caption", dtype=None if any(texts) else "object")  # type: ignore[attr-defined]
    series: Series = captions
    return series


def _image(cell: Any, reach: Reach) -> Any:
    return of_url(cell, reach=reach) if isinstance(cell, str) and is_url(cell) else cell


def _texts(
    images: list[Any], missing: list[bool], pipe: CaptionPipeline, batch_size: int, options: GenerationOptions
) -> Iterator[str | None]:
    present = (image for image, absent in zip(images, missing, strict=True) if not absent)
    captions = pipe.stream(present, batch_size=batch_size, **options)
    for absent in missing:
        caption = None if absent else next(captions)
        if isinstance(caption, ImageError):
            warnings.warn(str(caption), stacklevel=4)
        yield caption.text if caption is not None and not isinstance(caption, ImageError) else None
