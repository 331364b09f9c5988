"""CSV and TSV tables with a header: a column for the image's name and one or more for captions.

Supports common variants: Flickr8k's ``image,caption``, Flickr30k's ``image_name| comment_number| comment``, tables with
``caption_1`` to ``caption_5``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.cells import is_ours, unguarded
from captioner.data.paths import is_image_name, read_text, shown
from captioner.data.sources.records import CAPTION_KEYS, IMAGE_KEYS, pick
from captioner.data.sources.rows import OWN_FOLDER, NotThisForm, Reach, Row, gather, is_missing, named_split
from captioner.data.splits import ALL, Dataset
from captioner.errors import DataError

_NUMBERED = re.compile(rf"(?:{'|'.join(CAPTION_KEYS)})[ _-]?\d+")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table, by index."""

    width: int  # number of columns
    image: int
    captions: tuple[int, ...]
    split: int | None


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of columns to look for, in order of preference."""

    images: tuple[str, ...] = IMAGE_KEYS
    captions: tuple[str, ...] = CAPTION_KEYS
    split: str = "split"  # empty: the splits do not matter


OF_DATA = Names()


def find_columns(header: Iterable[str], wanted: Names = OF_DATA) -> Columns | None:
    """Return the columns by their names, or None without a column for images or captions."""
    names = [name.strip().lower() for name in header]
    image, caption = pick(names, wanted.images), pick(names, wanted.captions)
    captions = tuple(index for index, name in enumerate(names) if _NUMBERED.fullmatch(name))
    if caption is not None:
        captions = (names.index(caption),)
    if image is None or not captions:
        return None
    split = names.index(wanted.split) if wanted.split in names and wanted.split else None
    return Columns(width=len(names), image=names.index(image), captions=captions, split=split)


def matches(line: str) -> bool:
    """Return whether a file's first line is a header with the required columns."""
    return _dialect(line, OF_DATA) is not None


def read(path: Path, reach: Reach = OWN_FOLDER) -> Dataset:
    """Read the table. Raises ``DataError`` that names the line, ``NotThisForm`` if the columns are missing."""
    return gather(rows(path), path, reach=reach)


def rows(path: Path, wanted: Names = OF_DATA) -> Iterator[Row]:
    """Yield the rows of a table with the ``wanted`` columns, as ``read`` does; it need not be one of training data."""
    lines = read_text(path).split("\n")
    header = next((number for number, line in enumerate(lines) if line.strip()), None)
    if header is None:
        return
    dialect = _dialect(lines[header], wanted)
    if dialect is None:
        raise NotThisForm(
            f"{shown(path)} lacks a column for the image ({', '.join(wanted.images)}) or one for the caption "
            f"({', '.join(wanted.captions)}); its header is: {shown(lines[header][:80])}"
        )
    delimiter, columns = dialect
    number = 0
    is_guarded = is_ours(lines[header].split(","))
    try:
        for number, cells in _cells(lines[header:], delimiter):
            if is_guarded:
                cells[:] = map(unguarded, cells)
            if number and any(cell.strip() for cell in cells):
                yield _row(cells, columns, delimiter, f"{shown(path)}:{number + header + 1}")
    except csv.Error as error:
        raise DataError(f"{shown(path)}: after line {number + header + 1}: {error}; correct the file") from None


def _dialect(header: str, wanted: Names) -> tuple[str, Columns] | None:
    for delimiter in ",\t;|":
        columns = find_columns(next((cells for _, cells in _cells([header], delimiter)), []), wanted)
        if columns is not None:
            return delimiter, columns
    return None


def _cells(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows of cells, each with the index of its first line.

    Tables with tabs or bars commonly use no quoting: a caption in them may begin with a quotation mark.
    """
    if delimiter in ",;":
        spaced = delimiter + " " in lines[0]
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=spaced)
        first = 0
        for cells in reader:
            yield first, cells
            first = reader.line_num
    else:
        for number, line in enumerate(lines):
            yield number, [_unquoted(cell) for cell in line.split(delimiter)] if line.strip() else []


def _unquoted(cell: str) -> str:
    """Return a cell without pandas' quotation marks; keep a quotation mark that only begins a caption."""
    cell = cell.strip()
    inner = cell[1:-1].replace('""', "")
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if whole else cell


def _row(cells: list[str], columns: Columns, delimiter: str, where: str) -> Row:
    spare = len(cells) - columns.width
    if spare > 0 and any(cell.strip() for cell in cells[columns.width :]):
        if columns.captions != (columns.width - 1,):
            raise DataError(f"{where} has {len(cells)} cells for {columns.width} columns; put the caption in quotes")
        cells = [*cells[: columns.width - 1], delimiter.join(cells[columns.width - 1 :])]  # a caption with commas
    cells += [""] * -spare
    image = cells[columns.image].strip()
    if not image:
        raise DataError(f"{where} names no image; correct or remove the row")
    captions = tuple("" if is_missing(cells[index]) else cells[index] for index in columns.captions)
    for line in (line for caption in captions for line in caption.split("\n")[1:]):
        if any(is_image_name(cell.strip()) for cell in line.split(delimiter)):
            raise DataError(f"{where} opens a quotation that includes the next rows; close it or double the mark")
    split = named_split(cells[columns.split], where) if columns.split is not None else ALL
    if len(captions) > 1:  # some of caption_1 to caption_5 may be blank
        captions = tuple(filter(str.strip, captions)) or captions[:1]
    return Row(image=image, captions=captions, split=split, where=where)
