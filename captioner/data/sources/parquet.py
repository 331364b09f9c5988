"""Parquet tables with the same columns as a CSV, and texts or lists of texts as captions. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.data.paths import shown
from captioner.data.sources import records
from captioner.data.sources.rows import OWN_FOLDER, NotThisForm, Reach, gather
from captioner.data.splits import Dataset
from captioner.errors import DataError, MissingExtraError


def read(path: Path, reach: Reach = OWN_FOLDER) -> Dataset:
    """Read the table. Raises ``DataError``, and ``MissingExtraError`` without pyarrow."""
    return gather(records.rows(_records(path), path), path, reach=reach)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"reading {shown(path)}") from None
    try:
        # Not by path: pyarrow would interpret parent folders named key=value as columns.
        with path.open("rb") as file, parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            image = records.pick(schema.names, records.IMAGE_KEYS)
            known = {*records.IMAGE_KEYS, *records.CAPTION_KEYS, *records.TURN_KEYS, "split"}
            if image is None or records.pick(schema.names, (*records.CAPTION_KEYS, *records.TURN_KEYS)) is None:
                raise NotThisForm(
                    f"{shown(path)} lacks a column for the image ({', '.join(records.IMAGE_KEYS)}) or one for the "
                    f"caption ({', '.join(records.CAPTION_KEYS)}); it has {', '.join(schema.names[:10]) or 'none'}"
                )
            kind = schema.field(image).type
            if pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
                raise DataError(
                    f"{shown(path)} contains image data in its column {image!r}, which is not supported; save the "
                    f"images as files and name them in a column file_name"
                )
            columns = [name for name in schema.names if name in known]
            number = 0
            for batch in table.iter_batches(columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{shown(path)}: row {number}", record
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{shown(path)} is not a valid parquet file ({reason}); write it again") from None
