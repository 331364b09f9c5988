"""Parquet tables: the columns of a CSV, and files that unpack to more than memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.data.sources import read_splits
from captioner.errors import DataError

from .test_sources_files import TWO, content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an empty table beside two images."""
    for name in ("a.jpg", "b.jpg", "metadata.parquet"):
        (tmp_path / name).touch()
    return tmp_path / "metadata.parquet"


def test_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"file_name": ["a.jpg", "b.jpg"], "captions": [["one", "two"], ["three"]]}), path)
    assert content(read_splits(path)) == content(read_splits(path.parent)) == TWO
    parquet.write_table(pyarrow.table({"image": ["a.jpg"] * 2 + ["b.jpg"], "text": ["one", "two", "three"]}), path)
    assert content(read_splits(path)) == TWO
    several = {"Image": ["a.jpg", "b.jpg"], "caption_1": ["one", "three"], "caption_2": ["two", None], "n": [1, 2]}
    turns = {"image": ["a.jpg", "b.jpg"], "messages": [[{"role": "assistant", "content": "one"}]] * 2}
    for table, expected in (
        (several, TWO),
        ({"Image": ["a.jpg", "b.jpg"], "Caption": [["one", "two"], ["three"]], "split": ["nan", None]}, TWO),
        (turns, {"all": {"a.jpg": ["one"], "b.jpg": ["one"]}}),
    ):
        parquet.write_table(pyarrow.table(table), path)
        assert content(read_splits(path)) == expected
    embedded = {"image": [{"bytes": b"x", "path": None}], "text": ["one"]}
    for table, message in ((embedded, "contains image data"), ({"a": [1]}, "lacks a column .* it has a")):
        parquet.write_table(pyarrow.table(table), path)
        with pytest.raises(DataError, match=message):
            read_splits(path)
    for broken in (b"", b"PAR1 nonsense PAR1"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not a valid parquet file"):
            read_splits(path)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("length", "most", "message"),
    [
        (3000, 1 << 20, "larger than the limit of 1 MB when unpacked; split it"),
        (5000, 1 << 30, "contains a text of .* MB, and the limit is .* MB; shorten it"),
        (3000, 1 << 30, ""),
    ],
)
def test_a_small_parquet_file_of_much_text(
    path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool, nested: bool, length: int, most: int, message: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from captioner.data.sources import parquet as reader

    monkeypatch.setattr(reader, "MAX_TEXT", most)
    monkeypatch.setattr(reader, "MAX_SIDECAR", 4000)
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 500, pyarrow.int32()), ["x" * length])
    if nested:
        texts = pyarrow.ListArray.from_arrays(list(range(501)), texts.dictionary_decode())
    parquet.write_table(pyarrow.table({"image": ["a.jpg"] * 500, "text": texts}), path, store_schema=stored)
    assert path.stat().st_size < 40_000
    if message:
        with pytest.raises(DataError, match=message):
            read_splits(path)
    else:
        assert len(read_splits(path).split("all")[0].captions) == 500


def test_parquet_without_pyarrow_names_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Exception, match=r"needs pyarrow: pip install 'captioner\[parquet\]'"):
        read_splits(path)
