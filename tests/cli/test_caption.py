"""The caption command: photos in, lines out, for any names and contents."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from captioner.cli import main, options, output
from captioner.inference import precision as precisions
from captioner.training.tasks import Data

Run = Callable[..., tuple[int, list[bytes], list[str]]]


@pytest.fixture
def run(learnt: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return ``run(arguments, stdin=...)``: exit code, lines of stdout, lines of stderr."""

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, list[bytes], list[str]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = main([*map(os.fspath, arguments), "--model", str(learnt), "--device", "cpu"])  # type: ignore[call-overload]
        out, err = capfdbinary.readouterr()
        return code, out.splitlines(), err.decode().splitlines()

    return call


@pytest.fixture
def photos(data: Data, tmp_path: Path) -> Path:
    """Return a folder of four known photos, two of them in a subfolder."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, sample in zip(("1.png", "2.png", "more/3.png", "more/10.png"), data.train, strict=False):
        shutil.copy(sample.path, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def said(data: Data) -> list[str]:
    return [sample.captions[0] for sample in data.train]


def test_a_folder_is_walked(run: Run, photos: Path, said: list[str]) -> None:
    names = ("1.png", "2.png", "more/3.png", "more/10.png")
    expected = [f"{photos / name}\t{text}".encode() for name, text in zip(names, said, strict=False)]
    assert run("caption", photos) == (0, expected, [])
    assert run(photos) == (0, expected, []), "the verb may be left out"
    assert run("caption", photos / "1.png", photos / "2.png", "--beams", "2", "--batch-size", "1")[1] == expected[:2]
    assert run("caption", f"{photos}/**/*.png", photos / "1.png")[1] == expected


def test_vectors_stand_beside_captions(run: Run, photos: Path, said: list[str], taught: Path) -> None:
    code, out, _ = run("caption", photos / "1.png", photos / "none.png", "--json", "--vectors", "features")
    record, failed = map(json.loads, out)
    assert code == 1
    assert record["caption"] == said[0]
    assert list(record) == ["path", "caption", "score", "features"]
    assert len(record["features"]) == 32
    assert list(failed) == ["path", "error"]
    code, out, err = run("caption", photos / "1.png", "--json", "--vectors", "embeddings")
    assert (code, out) == (1, [])
    assert "has no contrastive head to compare images with texts" in err[0]
    for wrong in (["--vectors", "features"], ["--vectors", "features", "--json", "--write", "txt"]):
        code, out, err = run("caption", photos / "1.png", *wrong)
        assert (code, out) == (1, [])
        assert err[0].startswith("captioner: --vectors needs --json or --details")
    found = subprocess.run(
        [sys.executable, "-m", "captioner", photos / "1.png", "--json", "--vectors", "embeddings", "--model", taught],
        capture_output=True,
        check=True,
    )
    record = json.loads(found.stdout)
    for name in ("embedding", "text_embedding"):
        assert sum(value**2 for value in record[name]) == pytest.approx(1, abs=1e-4)


def test_details_are_json_with_every_word(run: Run, photos: Path, said: list[str]) -> None:
    code, out, _ = run("caption", photos / "1.png", "--details", "--beams", "3", "--count", "2")
    record = json.loads(out[0])
    assert code == 0
    assert record["caption"] == said[0]
    assert " ".join(word for word, _ in record["words"]) == said[0]
    assert 0 < record["confidence"] < 1
    assert len(record["alternatives"]) == 1
    assert record["alternatives"][0].keys() == {"caption", "score", "confidence", "words"}


def test_several_captions_are_several_lines(run: Run, photos: Path, said: list[str]) -> None:
    _, out, _ = run("caption", photos / "1.png", "--count", "3")
    assert [line.split(b"\t")[0].decode() for line in out] == [str(photos / "1.png")] * 3
    assert out[0].split(b"\t")[1].decode() == said[0]
    assert len(set(out)) == 3


def test_words_are_streamed_photo_by_photo(run: Run, photos: Path, said: list[str]) -> None:
    expected = run("caption", photos, "--beams", "1")
    (photos / "bad.png").write_bytes(b"no image")
    code, out, err = run("caption", photos, "--stream")
    assert (code, out) == (1, expected[1])
    assert len(err) == 1
    assert "bad.png" in err[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beams", "3", "--temperature", "0.5"], "sampling and 3 beams exclude each other"),
        (["--forbid", "dog", "--require", "a dog"], "'dog' is in both forbid and require"),
        (["--candidates", "4", "--beams", "2"], "4 captions per image need at least as many beams, not 2"),
        (["--stream", "--json"], "--stream prints one caption"),
        (["--stream", "--unsure", "0.6"], "--stream prints a caption before its confidence is known"),
        (["--forbid-file", "no-such-list"], "the word list no-such-list cannot be read (No such file or directory)"),
        (["--groups", "2"], "diversity above 0 and groups above 1 require each other"),
        (["--top-p", "1.5"], "top_p must be above 0 and at most 1"),
    ],
)
def test_contradictions_are_said_before_the_model_loads(
    options: list[str], message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photos), "--model", "no-such-model", *options]) == 1
    assert message in capsys.readouterr().err


def test_paths_on_stdin(run: Run, photos: Path, said: list[str]) -> None:
    given = f"{photos / '2.png'}\r\n\n{photos / 'more'}\n".encode()
    code, out, err = run("caption", "-", stdin=given)
    assert (code, [line.split(b"\t")[1].decode() for line in out], err) == (0, said[1:4], [])
    assert run("caption", "-") == (1, [], ["captioner: no paths on stdin; pass one path per line"])


def test_a_closed_stdin_is_one_sentence(
    learnt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # Python's state after `captioner caption - <&-`
    assert main(["caption", "-", "--model", str(learnt), "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("captioner: stdin is closed; pass the paths as arguments")


def test_urls_on_stdin_lead_to_the_public_internet_alone(run: Run) -> None:
    for arguments, reason in ((["-"], "a private network"), (["-", "--allow-private"], "the connection failed")):
        code, out, (err,) = run("caption", *arguments, stdin=b"http://127.0.0.1:1/1.png\n")
        assert (code, out) == (1, [])
        assert reason in err


def test_an_archive_and_a_url_go_the_way_of_files(run: Run, photos: Path, said: list[str]) -> None:
    with zipfile.ZipFile(photos / "some.zip", "w") as archive:
        archive.write(photos / "1.png", "in/one\n.png")
        archive.writestr("in/bad.png", b"no image")
    names = (photos / "some.zip", "http://127.0.0.1:1/2.png", photos / "2.png")
    code, out, err = run("caption", *names)
    assert (code, [line.decode() for line in out]) == (
        1,
        [f"{photos}/some.zip!/in/one\\n.png\t{said[0]}", f"{photos}/2.png\t{said[1]}"],
    )
    assert [line.partition(": ")[2].partition(":")[0] for line in err] == [
        f"cannot read {photos}/some.zip!/in/bad.png",
        "cannot read http",
    ]
    records = [json.loads(line) for line in run("caption", *names, "--json")[1]]
    assert [record["path"] for record in records] == [
        f"{photos}/some.zip!/in/one\n.png",
        f"{photos}/some.zip!/in/bad.png",
        "http://127.0.0.1:1/2.png",
        f"{photos}/2.png",
    ]


def test_json_records(run: Run, photos: Path, said: list[str]) -> None:
    (photos / "empty.png").touch()
    code, out, err = run("caption", photos, "--json")
    records = [json.loads(line) for line in out]
    assert (code, err) == (1, [])
    assert [record.keys() for record in records] == [{"path", "caption", "score"}] * 2 + [{"path", "error"}] + [
        {"path", "caption", "score"}
    ] * 2
    assert records[0]["path"] == str(photos / "1.png")
    assert records[0]["caption"] == said[0]
    assert -0.4 < records[0]["score"] < 0
    assert records[2] == {
        "path": str(photos / "empty.png"),
        "error": f"cannot read {photos / 'empty.png'}: it is empty",
    }


def test_bad_files_are_one_line_each_and_the_others_go_on(run: Run, photos: Path, said: list[str]) -> None:
    whole = (photos / "1.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no image")
    code, out, err = run("caption", photos / "gone.png", photos, f"{photos}/*.gif")
    assert code == 1
    assert [line.split(b"\t")[1].decode() for line in out] == said[:4]
    prefix = f"captioner: cannot read {photos}"
    assert err == [
        f"{prefix}/gone.png: there is no such file or folder",
        f"{prefix}/cut.png: the file is truncated",
        f"{prefix}/empty.jpg: it is empty",
        f"{prefix}/text.jpg: it is not an image, or its format is not supported",
        f"{prefix}/*.gif: no image matches this pattern",
    ]


def test_names_keep_one_line_each(run: Run, photos: Path, said: list[str]) -> None:
    """Plain output escapes tabs and newlines, so that a line has one tab; bytes outside UTF-8 stay unchanged."""
    odd = [b"tab\there.png", b"two\nlines\r.png", b"back\\slash.png", "été 犬.png".encode(), b"no-utf8-\xff.png"]
    folder = os.fsencode(photos)
    for name in odd:
        shutil.copy(photos / "1.png", os.path.join(folder, name))
    paths = [os.fsdecode(os.path.join(folder, name)) for name in odd]
    code, out, err = run("caption", *paths)
    assert (code, err) == (0, [])
    shown = [b"tab\\there.png", b"two\\nlines\\r.png", b"back\\\\slash.png", "été 犬.png".encode(), b"no-utf8-\xff.png"]
    assert out == [folder + b"/" + name + b"\t" + said[0].encode() for name in shown]
    code, out, _ = run("caption", *paths, "--json")
    assert [os.fsencode(json.loads(line)["path"]) for line in out] == [os.path.join(folder, name) for name in odd]
    assert all(line.decode().isprintable() for line in out)
    (photos / os.fsdecode(b"bad-\xff\n.png")).touch()
    assert run("caption", os.fsdecode(folder + b"/bad-\xff\n.png"))[2] == [
        f"captioner: cannot read {photos}/bad-\\udcff\\n.png: it is empty"
    ]


def test_a_full_disk_behind_stdout(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "print_text", full)
    code, out, err = run("caption", photos)
    assert (code, out) == (1, [])
    assert err == ["captioner: [Errno 28] No space left on device; free some space, or write to another folder"]


def test_a_reader_that_leaves_is_no_error(learnt: Path, data: Data, toy: Path) -> None:
    """``captioner caption - | head -1``: the pipe closes before all paths have arrived."""
    paths = sorted((toy / "images").iterdir())
    command = [sys.executable, "-m", "captioner", "caption", "-", "--batch-size", "1", "--model", str(learnt)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([*command, "--device", "cpu"], cwd=root, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write("".join(f"{path}\n" for path in paths[:4]).encode())
        process.stdin.flush()
        assert process.stdout.readline().startswith(os.fsencode(paths[0]) + b"\t")
        process.stdout.close()
        process.stdin.write("".join(f"{path}\n" for path in paths[4:]).encode())
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


@pytest.mark.parametrize(("precision", "ahead", "told"), [("int8", False, 1), ("int8", True, 0), ("fp32", False, 0)])
def test_int8_that_is_not_faster_is_one_sentence(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, precision: str, ahead: bool, told: int
) -> None:
    monkeypatch.setattr(precisions, "INT8_AHEAD", dict.fromkeys(precisions.INT8_AHEAD, ahead))
    options._warn_of_slow.cache_clear()
    code, out, err = run("caption", photos, "--precision", precision)
    assert (code, len(out), len(err)) == (0, 4, told)
    if told:
        assert err[0].startswith("captioner: int8 is not faster than fp32 on this CPU (`captioner doctor` says why)")
    assert run("caption", photos, "--precision", precision) == (0, out, []), "the sentence comes once in a process"


@pytest.mark.parametrize(
    ("device", "capability", "told"), [(None, "AVX2", 1), (None, "AVX512", 0), ("cuda", "AVX2", 0)]
)
def test_bf16_without_instructions_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str | None, capability: str, told: int
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("captioner.pipelines.choose_device", lambda name=None: name or "cpu")
    options._warn_of_slow.cache_clear()
    assert options.Device(device=device, precision="bf16").checked_precision() == "bf16"
    told_lines = capsys.readouterr().err.splitlines()
    assert len(told_lines) == told
    assert all(line.startswith("captioner: bf16 is much slower than fp32 on this CPU") for line in told_lines)
