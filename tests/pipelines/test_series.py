"""A column of paths in, a column of captions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import captioner
import captioner.data.images
from captioner.errors import UsageError
from captioner.training.tasks import Data

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")


@pytest.fixture
def paths(data: Data) -> list[str]:
    return [str(sample.path) for sample in data.train[:3]]


@pytest.fixture
def pipe(learnt: Path) -> captioner.CaptionPipeline:
    return captioner.load(learnt, device="cpu")


@pytest.fixture
def texts(pipe: captioner.CaptionPipeline, paths: list[str]) -> list[str]:
    return [caption.text for caption in pipe.caption(paths)]


def test_pandas(pipe: captioner.CaptionPipeline, paths: list[str], texts: list[str]) -> None:
    df = pandas.DataFrame({"path": [paths[0], None, "none.png", float("nan"), *paths[1:]]}, index=[7, 7, 3, 2, 1, 0])
    with pytest.warns(UserWarning, match=r"cannot read none\.png: there is no such file"):
        df["caption"] = captioner.caption_series(df["path"], pipe=pipe, batch_size=2)
    assert df["caption"].isna().tolist() == [False, True, True, True, False, False]
    assert df["caption"].dropna().tolist() == texts
    assert df["caption"].index.tolist() == [7, 7, 3, 2, 1, 0]
    assert captioner.caption_series(df["path"][:1], pipe=pipe, beams=2).tolist() == [
        pipe.caption(paths[0], beams=2).text
    ]
    for nothing in (pandas.Series([], dtype="object"), pandas.Series([None, None])):
        assert captioner.caption_series(nothing, pipe=pipe).isna().all()


def test_pandas_has_more_kinds_of_nothing(pipe: captioner.CaptionPipeline, paths: list[str], texts: list[str]) -> None:
    """pd.NA is neither true nor false, so comparisons do not find it."""
    for dtype in ("string", "object"):
        series = pandas.Series([pandas.NA, *paths, None], dtype=dtype)
        found = captioner.caption_series(series, pipe=pipe)
        assert found.isna().tolist() == [True, False, False, False, True]
        assert found.dropna().tolist() == texts
    assert captioner.caption_series(pandas.Series([pandas.NaT, paths[0]]), pipe=pipe).tolist()[1:] == texts[:1]


def test_polars(pipe: captioner.CaptionPipeline, paths: list[str], texts: list[str]) -> None:
    series = polars.Series("path", [paths[0], None, "none.png", *paths[1:]])
    with pytest.warns(UserWarning, match=r"cannot read none\.png"):
        found = captioner.caption_series(series, pipe=pipe)
    assert found.to_list() == [texts[0], None, None, *texts[1:]]
    assert found.name == "caption"
    assert found.dtype == polars.String
    frame = polars.DataFrame({"path": paths}).with_columns(
        caption=polars.col("path").map_batches(
            lambda column: captioner.caption_series(column, pipe=pipe), return_dtype=polars.String
        )
    )
    assert frame["caption"].to_list() == texts
    assert captioner.caption_series(polars.Series([], dtype=polars.String), pipe=pipe).len() == 0


@pytest.mark.parametrize("given", [["a.png"], "a.png", 3])
def test_what_is_no_series(given: Any) -> None:
    with pytest.raises(UsageError, match="must be a pandas or polars series, not a"):
        captioner.caption_series(given)


def test_a_model_by_its_name(learnt: Path, paths: list[str], texts: list[str]) -> None:
    found = captioner.caption_series(pandas.Series(paths), model=learnt)
    assert found.tolist() == texts


def test_a_column_leads_to_the_public_internet_alone() -> None:
    class Listens:
        def stream(self, images: Any, **_: Any) -> Any:
            for image in images:
                try:
                    captioner.data.images.open_image(image)
                except captioner.ImageError as error:
                    yield error

    column, pipe = pandas.Series(["http://127.0.0.1:1/1.png"]), Listens()
    with pytest.warns(UserWarning, match="this machine or a private network"):
        captioner.caption_series(column, pipe=pipe)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="the connection failed"):
        captioner.caption_series(column, pipe=pipe, allow_private=True)  # type: ignore[arg-type]
