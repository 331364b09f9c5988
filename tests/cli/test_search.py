"""The search command returns the nearest photos to a text; an unreadable photo does not stop it."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.training.tasks import Data

Run = Callable[..., tuple[int, list[bytes], list[str]]]


@pytest.fixture
def run(taught: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return ``run(arguments, model=..., stdin=...)``: exit code, lines of stdout, lines of stderr."""

    def call(*arguments: object, model: Path = taught, stdin: bytes = b"") -> tuple[int, list[bytes], list[str]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = main([*map(os.fspath, arguments), "--model", str(model), "--device", "cpu"])  # type: ignore[call-overload]
        out, err = capfdbinary.readouterr()
        return code, out.splitlines(), err.decode().splitlines()

    return call


@pytest.fixture
def photos(data: Data, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for place, sample in enumerate(data.train):
        shutil.copy(sample.path, tmp_path / "photos" / f"{place}.png")
    return tmp_path / "photos"


def test_the_photo_that_a_caption_is_of_comes_first(run: Run, photos: Path, data: Data) -> None:
    first = 0
    for place, sample in enumerate(data.train):
        code, out, err = run("search", sample.captions[0], photos, "--count", "3")
        assert (code, err) == (0, [])
        rows = [line.decode().split("\t") for line in out]
        scores = [float(score) for score, _ in rows]
        assert len(rows) == 3
        assert scores == sorted(scores, reverse=True)
        assert all(-100 <= score <= 100 for score in scores)
        first += rows[0][1] == str(photos / f"{place}.png")
    assert first >= 6


def test_json_and_bad_files(run: Run, photos: Path, data: Data) -> None:
    (photos / "bad\t.png").write_bytes(b"no image")
    text = data.train[0].captions[0]
    code, out, err = run("search", text, photos, photos / "gone.png")
    assert code == 1
    assert len(out) == 8
    assert len(err) == 2
    assert all(line.startswith("captioner: cannot read ") for line in err)
    code, lines, err = run("search", text, photos, photos / "gone.png", "--json", "--count", "2")
    assert (code, err) == (1, [])
    records = [json.loads(line) for line in lines]
    assert [sorted(record) for record in records] == [["path", "score"]] * 2 + [["error", "path"]] * 2
    assert f"{records[0]['score']:.2f}\t{records[0]['path']}".encode() == out[0]
    assert records[2]["path"] == str(photos / "bad\t.png")


def test_paths_from_stdin(run: Run, photos: Path, data: Data) -> None:
    given = f"{photos / '0.png'}\n{photos / '1.png'}\n".encode()
    code, out, _ = run("search", data.train[0].captions[0], "-", stdin=given)
    assert (code, len(out)) == (0, 2)
    code, out, err = run("search", "a dog", "-")
    assert (code, out, err) == (1, [], ["captioner: no paths on stdin; pass one path per line"])


def test_no_text_and_no_head(run: Run, photos: Path, learnt: Path) -> None:
    assert run("search", " ", photos) == (
        1,
        [],
        ["captioner: the text ' ' has no words; describe what the image shows"],
    )
    code, out, err = run("search", "a dog", photos / "gone.png", model=learnt)
    assert (code, out) == (1, [])
    assert len(err) == 1
    assert err[0].endswith(
        "has no contrastive head to compare images with texts; train one with `captioner finetune --recipe multitask`"
    )


def test_a_model_with_labels_alone_searches_by_the_labels_in_the_text(
    run: Run, photos: Path, data: Data, bilingual: Path
) -> None:
    model = bilingual / "best"
    shows = {str(photos / f"{place}.png") for place, s in enumerate(data.train) if "star" in s.captions[0].split()}
    code, out, err = run("search", "two stars in the snow", photos, "--count", str(len(shows)), model=model)
    assert (code, err) == (0, [])
    assert {line.decode().split("\t")[1] for line in out} == shows
    assert all(50 < float(line.split(b"\t")[0]) <= 100 for line in out)
    code, out, err = run("search", "something lovely", photos / "gone.png", model=model)
    assert (code, out) == (1, [])
    assert len(err) == 1
    assert "the query 'something lovely' names none of the 5 labels of this captioner, such as" in err[0]


def test_rerank_by_matching_from_the_command_line(run: Run, photos: Path, learnt: Path) -> None:
    options = ("--beams", "4", "--candidates", "4", "--rerank", "matching")
    code, out, err = run("caption", photos, *options)
    assert (code, len(out), err) == (0, 8, [])
    code, out, err = run("caption", photos, *options, model=learnt)
    assert (code, out) == (1, [])
    assert len(err) == 1
    assert "has no matching head" in err[0]
