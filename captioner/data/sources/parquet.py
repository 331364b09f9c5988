"""Parquet tables with the same columns as a CSV, and texts or lists of texts as captions. Needs pyarrow.

A file of a kilobyte may name one long text a million times, so nothing is unpacked before its size is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.data.paths import MAX_SIDECAR, MAX_TEXT, shown
from captioner.data.sources import records, tables
from captioner.data.sources.rows import OWN_FOLDER, NotThisForm, Reach, gather, is_missing
from captioner.data.splits import Dataset
from captioner.errors import DataError, MissingExtraError

_ROWS = 1 << 14  # of a batch; each one holds the whole dictionary of texts


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
            columns = _columns(table.schema_arrow, path)
            texts = _texts_of(table, columns, path)
            number = 0
            with parquet.ParquetFile(file, metadata=table.metadata, read_dictionary=texts) as packed:
                for batch in _bounded(packed.iter_batches(_ROWS, columns=list(columns)), path):
                    plain = [table.schema_arrow.field(name) for name in batch.schema.names]
                    unpacked = pyarrow.Table.from_batches([batch]).cast(pyarrow.schema(plain))  # faster to list
                    for values in unpacked.to_pylist():
                        number += 1
                        yield f"{shown(path)}: row {number}", _record(values, columns)
    except MemoryError:
        raise DataError(f"{shown(path)} needs more memory than there is; split it") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{shown(path)} is not a valid parquet file ({reason}); write it again") from None


def _columns(schema: Any, path: Path) -> dict[str, str]:
    """Return the columns to read, with the names of their fields in a record; several may have the same one."""
    from pyarrow import types

    names = [name.strip().lower() for name in schema.names]
    found, image = tables.find_columns(names), records.pick(names, records.IMAGE_KEYS)
    turns = records.pick(names, records.TURN_KEYS)
    if image is None or (found is None and turns is None):
        raise NotThisForm(
            f"{shown(path)} lacks a column for the image ({', '.join(records.IMAGE_KEYS)}) or one for the "
            f"caption ({', '.join(records.CAPTION_KEYS)}); it has {', '.join(schema.names[:10]) or 'none'}"
        )
    kind = schema.field(names.index(image)).type
    if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        raise DataError(
            f"{shown(path)} contains image data in its column {image!r}, which is not supported; save the "
            f"images as files and name them in a column file_name"
        )
    fields = {names.index(image): image}
    if found is not None:
        fields |= {index: names[index] if len(found.captions) == 1 else "captions" for index in found.captions}
    elif turns is not None:
        fields[names.index(turns)] = turns
    if "split" in names:
        fields[names.index("split")] = "split"
    return {schema.names[index]: field for index, field in fields.items()}


def _record(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a row; blank ones of several captions are left out."""
    record: dict[str, Any] = {}
    several = [values[name] for name, field in columns.items() if field == "captions"]
    for name, field in columns.items():
        record[field] = values[name]
    if len(several) > 1:
        filled = [text for text in several if not is_missing(text) and text != ""]
        record["captions"] = filled or several[:1]
    return record


def _texts_of(table: Any, columns: Mapping[str, str], path: Path) -> list[str]:
    """Return the paths of all texts in the columns. Raises ``DataError`` if the pages are too large to unpack."""
    leaves = [table.schema.column(index) for index in range(len(table.schema))]
    places = [
        index
        for index, leaf in enumerate(leaves)
        if any(leaf.path == name or leaf.path.startswith(f"{name}.") for name in columns)
    ]
    groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
    if sum(group.column(index).total_uncompressed_size for group in groups for index in places) > MAX_TEXT:
        raise _too_large(path)
    return [leaves[index].path for index in places if leaves[index].physical_type == "BYTE_ARRAY"]


def _bounded(batches: Iterator[Any], path: Path) -> Iterator[Any]:
    """Yield batches as long as their texts, all together, do not exceed the limit. Raises ``DataError``."""
    total = 0
    for batch in batches:
        for size, longest in (sizes for column in batch.columns for sizes in _sizes(column)):
            total += size
            if longest > MAX_SIDECAR:
                raise DataError(
                    f"{shown(path)} contains a text of {longest / 1e6:,.0f} MB, and the limit is "
                    f"{MAX_SIDECAR / 1e6:,.0f} MB; shorten it"
                )
        if total > MAX_TEXT:
            raise _too_large(path)
        yield batch


def _sizes(array: Any) -> Iterator[tuple[int, int]]:
    """Yield (bytes of all values when unpacked, bytes of the longest text) of each array in a column."""
    from pyarrow import compute, types

    kind = array.type
    if types.is_nested(kind):
        parts = array.flatten()
        for part in parts if isinstance(parts, list) else [parts]:
            yield from _sizes(part)
        return
    texts = array.dictionary if types.is_dictionary(kind) else array
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if not any(is_kind(texts.type) for is_kind in kinds):
        yield 8 * len(array), 0
        return
    lengths = compute.binary_length(texts)
    lengths = lengths.take(array.indices) if types.is_dictionary(kind) else lengths
    yield 8 * len(array) + (compute.sum(lengths).as_py() or 0), compute.max(lengths).as_py() or 0


def _too_large(path: Path) -> DataError:
    return DataError(f"{shown(path)} is larger than the limit of {MAX_TEXT / 1e6:,.0f} MB when unpacked; split it")
