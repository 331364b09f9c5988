"""`captioner caption` with output files, through the whole command."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import captioner.pipelines
from captioner.cli import main
from captioner.cli.progress import Progress
from captioner.training.tasks import Data

Run = Callable[..., tuple[int, list[str], list[str]]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(learnt: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return ``run(arguments, stdin=...)``: exit code, lines of stdout, lines of stderr."""

    def call(*arguments: object, stdin: str = "") -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        code = main(["caption", *map(os.fspath, arguments), "--model", str(learnt), "--device", "cpu"])  # type: ignore[call-overload]
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


@pytest.fixture
def photos(data: Data, tmp_path: Path) -> Path:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, sample in zip(("1.png", "2.png", "more/3.png"), data.train, strict=False):
        shutil.copy(sample.path, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def said(data: Data) -> list[str]:
    return [sample.captions[0] for sample in data.train]


def test_files_are_written_and_stdout_is_still(run: Run, photos: Path, said: list[str]) -> None:
    assert run(photos, "--write", "txt, jsonl") == (0, [], ["captioner: 3 captioned"])
    assert (photos / "more/3.txt").read_text() == said[2] + "\n"
    assert json.loads((photos / "captions.jsonl").read_text().splitlines()[1])["caption"] == said[1]


def test_a_folder_that_has_all_captions_needs_no_model(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(photos, "--write", "txt")

    def load(*args: object, **options: object) -> None:
        raise AssertionError("it is loaded")

    monkeypatch.setattr(captioner.pipelines, "load", load)
    assert run(photos, "--write", "txt") == (0, [], ["captioner: 0 captioned; 3 skipped with existing captions"])
    (photos / "2.txt").write_text(" ")
    code, out, err = run(photos, "--write", "txt", "--dry-run")
    assert (code, err) == (0, ["captioner: would caption 1, skip 2, fail 0"])
    assert out[1] == f"caption\t{photos / '2.png'}\ttxt"
    assert out[0] == f"skip\t{photos / '1.png'}\thas its caption in txt"
    with pytest.raises(AssertionError, match="it is loaded"):
        run(photos, "--write", "txt")


def test_records_on_stdout_beside_files(run: Run, photos: Path, said: list[str]) -> None:
    (photos / "bad.png").touch()
    code, out, err = run(photos, "--write", "txt", "--json", "--count", "2", "--beams", "2")
    records = [json.loads(line) for line in out]
    assert code == 1
    names = ("1.png", "2.png", "bad.png", "more/3.png")
    assert [record["path"] for record in records] == [str(photos / name) for name in names]
    assert records[0]["caption"] == said[0]
    assert records[2]["error"] == f"cannot read {photos}/bad.png: it is empty"
    assert err == ["captioner: 3 captioned; 1 failed"]
    assert len((photos / "1.txt").read_text().splitlines()) == 2


def test_texts_round_captions(run: Run, photos: Path, said: list[str]) -> None:
    run(photos, "--write", "caption", "--before", "zwx {x}, ", "--template", "{caption} of {folder}", "--after", "!")
    assert (photos / "1.caption").read_text() == f"zwx {{x}}, {said[0]} of photos!\n"
    run(photos, "--write", "caption", "--existing", "append", "--separator", "\\n")
    assert (photos / "1.caption").read_text() == f"zwx {{x}}, {said[0]} of photos!\n{said[0]}\n"


def test_links_out_of_the_folder(run: Run, photos: Path, said: list[str], tmp_path: Path) -> None:
    (photos / "1.txt").symlink_to(tmp_path / "elsewhere")
    code, _, err = run(photos, "--write", "txt")
    assert (code, err[-1]) == (1, "captioner: 2 captioned; 1 failed")
    assert "out of" in err[0]
    assert run(photos, "--write", "txt", "--follow-links")[0] == 0
    assert (tmp_path / "elsewhere").read_text() == said[0] + "\n"


def test_a_part_without_files_prints(run: Run, photos: Path) -> None:
    lines = [line for part in (1, 2) for line in run(photos, "--shard", f"{part}/2")[1]]
    assert len(lines) == len(set(lines)) == 3
    assert sorted(p.name for p in photos.rglob("*.*")) == ["1.png", "2.png", "3.png"]


def test_a_page_of_the_run(run: Run, photos: Path, said: list[str], tmp_path: Path) -> None:
    code, out, err = run(photos, "--report", tmp_path / "page.html")
    assert (code, len(out), err) == (0, 3, []), "without --write captions are printed as ever"
    text = (tmp_path / "page.html").read_text()
    assert text.count("<img src=") == 3
    assert f">{said[0]}</p>" in text
    run(photos, "--write", "txt", "--report", tmp_path / "page.html")
    assert "Photos: 3 captioned." in (tmp_path / "page.html").read_text()
    assert not list(photos.glob(".captioner*"))


def test_paths_on_stdin(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("-", "--write", "jsonl,txt", stdin=f"{photos}/2.png\ngone.png\n")
    assert code == 1
    assert err[0] == "captioner: cannot read gone.png: there is no such file or folder"
    assert json.loads((tmp_path / "captions.jsonl").read_text())["path"] == "photos/2.png"
    assert (photos / "2.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--existing", "append"], "--existing changes how captions are written to files; add --write txt"),
        (["--follow-links"], "--follow-links changes how captions are written to files; add --write txt"),
        (["--write", "txt", "--stream"], "--stream cannot be combined with --write"),
        (["--write", "pdf"], "unknown output 'pdf'; choose from txt, caption, jsonl, csv, metadata, coco, xmp"),
        (["--write", "txt", "--template", "x"], "lacks the caption"),
        (["--watch", "--dry-run"], "--watch runs until Ctrl-C"),
        (["--shard", "0/2"], "shards are numbered from 1"),
    ],
)
def test_contradictions_are_said_before_the_model_loads(
    options: list[str], message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photos), "--model", "no-such-model", *options]) == 1
    assert message in capsys.readouterr().err


def test_watching(learnt: Path, photos: Path, said: list[str], tmp_path: Path) -> None:
    """``--watch`` captions existing and new photos, and ends with exit code 0 on Ctrl-C."""
    command = [sys.executable, "-m", "captioner", "caption", str(photos), "--write", "txt,coco", "--watch"]
    command += ["--model", str(learnt), "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_for(photos / "more/3.txt")
            shutil.copy(photos / "1.png", tmp_path / "new.png")
            (tmp_path / "new.png").rename(photos / "new.png")
            _wait_for(photos / "new.txt")
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == "captioner: 4 captioned\n"
    assert (photos / "new.txt").read_text() == said[0] + "\n"
    assert len(json.loads((photos / "captions.coco.json").read_text())) == 4
    assert not list(photos.glob(".captioner*"))


def test_ctrl_c_ends_watching_after_the_photos_in_progress(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C at any moment, also between two photos of a batch, is the normal end."""
    monkeypatch.setattr(Progress, "step", lambda self: signal.raise_signal(signal.SIGINT) if not done else None)
    monkeypatch.setattr(Progress, "wait", lambda self, what: done.append(what))
    done: list[str] = []
    (photos / "more/3.png").unlink()
    (photos / "2.png").unlink()
    code, _, told = run(photos, "--write", "txt", "--watch")
    assert (code, told) == (0, ["captioner: 1 captioned"])
    assert done == ["assembling files"]
    assert not list(photos.glob(".captioner*"))


def _wait_for(path: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.1)


def test_what_is_left_out_is_told_in_one_line_each(run: Run, photos: Path) -> None:
    (photos / "@eaDir").mkdir()
    shutil.copy(photos / "1.png", photos / "@eaDir" / "thumb.png")
    for name in ("a.NEF", "b.nef", "c.jxl"):
        (photos / name).touch()
    code, _, told = run(photos, "--dry-run")
    bins, unread, would = told
    assert (code, would) == (0, "captioner: would caption 3, skip 0, fail 0")
    assert bins == "captioner: left out: 1 folder of thumbnails or deleted files (@eaDir); --all includes them"
    assert unread == "captioner: not supported: 2 .nef, 1 .jxl; convert them to JPEG, PNG or TIFF first"
    assert run(photos, "--write", "txt") == (0, [], [bins, unread, "captioner: 3 captioned"])
    assert run(photos, "--dry-run", "--all")[2] == [unread, "captioner: would caption 4, skip 0, fail 0"]
    assert run(photos)[2] == [bins, unread]


def test_parquet_needs_ray(run: Run, photos: Path) -> None:
    code, _, (told,) = run(photos, "--write", "parquet", "--out", "x")
    assert code == 1
    assert "--ray local" in told
    assert "captioner[ray]" in told
