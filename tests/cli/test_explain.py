"""``captioner explain`` writes the requested files and touches no others."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.training.tasks import Data

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(learnt: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        capfd.readouterr()
        code = main(["explain", *map(str, arguments), "--model", str(learnt), "--device", "cpu"])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


@pytest.fixture
def photos(data: Data, tmp_path: Path) -> Path:
    """Return two folders that each hold a ``1.png``."""
    for folder, sample in zip(("a", "b"), data.train, strict=False):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        shutil.copy(sample.path, tmp_path / "photos" / folder / "1.png")
    return tmp_path / "photos"


def test_a_page_and_a_picture_for_every_photo(run: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = run(photos, "--out", "seen")
    assert (code, err) == (0, [])
    assert out == [f"seen/1{number}.explain.{form}" for number in ("", "-2") for form in ("html", "png")]
    assert all((tmp_path / line).stat().st_size > 1000 for line in out)


def test_one_file(run: Run, photos: Path, tmp_path: Path) -> None:
    assert run(photos / "a" / "1.png", "--out", "deep/x.html", "--caption", "a cat")[:2] == (0, ["deep/x.html"])
    assert ">cat<" in (tmp_path / "deep" / "x.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.html"]


def test_urls_on_stdin_lead_to_the_public_internet_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"http://127.0.0.1:1/1.png\n")))
    code, out, (err,) = run("-")
    assert (code, out) == (1, [])
    assert "a private network" in err


def test_names_on_stdin(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = io.TextIOWrapper(io.BytesIO(f"{photos / 'a' / '1.png'}\n".encode()))
    monkeypatch.setattr("sys.stdin", names)
    assert run("-")[:2] == (0, ["1.explain.html", "1.explain.png"])
    assert run("-") == (1, [], ["captioner: no paths on stdin; pass one path per line"])


def test_json_goes_on_after_a_bad_photo(run: Run, photos: Path, data: Data) -> None:
    (photos / "a" / "0.png").write_bytes(b"no image")
    code, out, _ = run(photos, "--json")
    bad, good, other = map(json.loads, out)
    assert code == 1
    assert bad["path"] == str(photos / "a" / "0.png")
    assert "not an image" in bad["error"]
    assert good["caption"] == data.train[0].captions[0]
    assert [word["word"] for word in good["words"]] == good["caption"].split()
    assert set(good["words"][0]) == {"word", "probability", "entropy", "gate", "centre", "spread"}
    assert other["files"] == ["1-2.explain.html", "1-2.explain.png"]


def test_what_contradicts_is_refused_and_nothing_written(run: Run, photos: Path) -> None:
    photo = photos / "a" / "1.png"
    before = photo.read_bytes()
    for arguments, message in (
        ((photo, "--out", photo), "is the photo itself; give --out another name"),
        ((photos, "--out", "x.png"), "2 photos do not fit into the one file x.png"),
        ((photo, "--caption", "a cat", "--beams", 3), "leave out the options"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, [])
        assert message in err[0]
    assert photo.read_bytes() == before
