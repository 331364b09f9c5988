"""Output files from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import captioner
from captioner.errors import OutputError, UsageError
from captioner.training.tasks import Data


@pytest.fixture
def pictures(data: Data, tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number, sample in enumerate(data.train[:4]):
        shutil.copy(sample.path, tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def test_an_iteration_that_is_broken_off_is_gone_on_with(
    learnt: Path, data: Data, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = captioner.load(learnt, device="cpu")
    (pictures / "bad.png").touch()
    first = captioner.caption_folder(pictures, write=["txt", "jsonl"], pipe=pipe, batch_size=1)
    assert [next(first).photo.key for _ in range(2)] == ["0.png", "1.png"]
    with pytest.raises(OutputError, match="another run is writing"):
        next(captioner.caption_folder(str(pictures), write="csv", pipe=pipe))
    first.close()  # type: ignore[attr-defined]
    found = list(captioner.caption_folder(str(pictures), write=["txt", "jsonl"], pipe=pipe, batch_size=1))
    assert [(outcome.photo.key, outcome.state) for outcome in found] == [
        ("2.png", "captioned"),
        ("3.png", "captioned"),
        ("bad.png", "failed"),
    ]
    assert str(found[0].caption) == data.train[2].captions[0]
    assert [(pictures / f"{n}.txt").read_text().strip() for n in range(4)] == [s.captions[0] for s in data.train[:4]]
    assert not list(pictures.glob(".*"))


def test_no_model_is_loaded_for_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (pictures / f"{number}.txt").write_text("mine")
    monkeypatch.setattr("captioner.pipelines.load", None)
    monkeypatch.chdir(pictures.parent)
    assert list(captioner.caption_folder([pictures / "*.png"], write="txt", out=None, existing="skip")) == []
    assert list(captioner.caption_folder(pictures, write="txt")) == []


def test_what_cannot_be_is_said_at_once(pictures: Path) -> None:
    with pytest.raises(UsageError, match="unknown output 'pdf'"):
        captioner.caption_folder(pictures, write="pdf")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1/8 to 8/8"):
        captioner.caption_folder(pictures, shard="0")
