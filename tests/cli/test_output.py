"""Terminal output contains no control sequences and no password."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from captioner.captioning.captions import Caption
from captioner.cli import main, options, output
from captioner.cli.output import escaped, print_caption, print_json, print_text, tell
from captioner.data.paths import plain
from captioner.errors import UsageError
from captioner.training.log import RunLog

CODES = "\x1b[31m\x07\x9b2J\x7f\r"
SAFE = "\\x1b[31m\\x07\\x9b2J\\x7f\\x0d"


def test_control_codes_are_escaped(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    print_text(f"a{CODES}")
    print_caption(f"b{CODES}.jpg", Caption(f"c{CODES}", 0.0, 1.0), json=False, details=False)
    print_json({"path": f"d{CODES}"})
    tell(f"e{CODES}")
    options.print_status(f"f{CODES}")
    RunLog(tmp_path).say(f"g{CODES}")
    out, err = capfdbinary.readouterr()
    for text in (out.decode(), err.decode()):
        assert not [char for char in text if char not in "\n\t" and not char.isprintable()]
    said = SAFE.replace("\\x0d", "\\r")
    assert out.decode().splitlines()[:2] == [f"a{SAFE}", f"b{said}.jpg\tc{said}"]
    assert json.loads(out.decode().splitlines()[2])["path"] == f"d{CODES}"
    assert err.decode().splitlines() == [f"captioner: e{SAFE}", f"f{SAFE}", f"g{SAFE}"]


def test_unsure_captions_are_marked(capfd: pytest.CaptureFixture[str]) -> None:
    other = Caption("a dog", -1.0, 0.7)
    unsure = Caption("a cat", -2.0, 0.5, alternatives=(other,), unsure=True)
    print_caption("x.jpg", unsure, json=False, details=False)
    print_caption("x.jpg", unsure, json=True, details=False)
    print_caption("x.jpg", other, json=True, details=False)
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["x.jpg\tnot sure: a cat", "x.jpg\ta dog"]
    assert json.loads(lines[2])["unsure"] is True
    assert "unsure" not in json.loads(lines[2])["alternatives"][0]
    assert json.loads(lines[3]) == {"path": "x.jpg", "caption": "a dog", "score": -1.0}


def test_options_that_are_file_names(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "x", "--no\x1b[2Jsuch"])
    assert "\x1b" not in capfd.readouterr().err.replace("\x1b[0m", "")


def test_messages_of_the_whole_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = os.path.join(tmp_path, "\x1b]0;owned\x07.csv")
    Path(name).write_text("image,caption\n\x1b[2J.jpg,x\n")
    assert main(["inspect", name]) == 1
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "owned" in err


def test_bytes_that_are_not_utf8_are_kept_but_for_a_terminal(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_text("a\udc9b")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_text("a\udc9b")
    assert capfdbinary.readouterr()[0] == b"a\x9b\na\\udc9b\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read http://me:secret@host/a.jpg: no", "cannot read http://***@host/a.jpg: no"),
        ("HTTPS://me:se@cret@host", "HTTPS://***@host"),
        ("s3://key:secret@bucket and ftp://u@h", "s3://***@bucket and ftp://***@h"),
        ("http://host/a@b.jpg, mail me@host", "http://host/a@b.jpg, mail me@host"),
    ],
)
def test_passwords_are_left_out(text: str, told: str) -> None:
    assert plain(text) == told


def test_backslashes_tell_names_apart() -> None:
    names: list[Any] = ["\x1b", "\\x1b", "\t", "\\t"]
    assert len({escaped(name) for name in names}) == 4


def test_half_a_character_of_a_name_on_windows_is_escaped(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output.print_text("dog\ud83d.jpg")
    assert capfdbinary.readouterr().out == b"dog\\ud83d.jpg\n"


def test_a_list_that_cannot_be_names_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the bytes of a list must be UTF-8; elsewhere any bytes are a name."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\ncaf\xe9.jpg\n")))
    monkeypatch.setattr(os, "fsdecode", lambda line: line.decode("utf-8"))
    paths = output.paths_of(["-"])
    assert next(paths) == "a.jpg"
    with pytest.raises(UsageError, match=r"the line 'caf\\xe9.jpg' on stdin is not UTF-8; write the list in UTF-8"):
        next(paths)
