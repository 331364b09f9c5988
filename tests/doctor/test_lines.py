"""Lines of the report hold no names of the user and no tokens, and a broken probe is one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.doctor.lines import LONGEST, Fact, Line, Warned, home_folder, lines_of, scrubbed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[Errno 13] Permission denied: '/home/anna/my photos/x.so'", "[Errno 13] Permission denied: PATH"),
        ("/home/anna/x.so: cannot open", "PATH: cannot open"),
        ("cannot open (/srv/anna)", "cannot open (PATH)"),
        (r"cannot open C:\Users\anna\x.dll", "cannot open PATH"),
        (r"cannot open '\\server\anna files\x.dll'", "cannot open PATH"),
        ("build for CPU/CUDA, 3 of 4", "build for CPU/CUDA, 3 of 4"),
        ("$HF_HOME/hub, 3 GB", "$HF_HOME/hub, 3 GB"),
        ("~/.cache/huggingface/hub", "~/.cache/huggingface/hub"),
        ("cannot open ~/clients/acme", "cannot open PATH"),
        ("cannot open file:///home/anna/x.so", "cannot open PATH"),
        ("token hf_abcdefghijklmnop refused", "token TOKEN refused"),
        ("see https://anna:secret@example.org/x", "see https://***@example.org/x"),
        ("two\nlines\x1b[31m", r"two lines\x1b[31m"),
    ],
)
def test_names_and_tokens_are_left_out(text: str, shown: str) -> None:
    assert scrubbed(text) == shown


@pytest.mark.parametrize("path", ["", "/.cache/huggingface", "/clients/acme-secret/venv/lib/z.so"])
def test_the_home_folder_is_left_out(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/an na"))
    assert scrubbed(f"cannot open (/home/an na{path})") == "cannot open (PATH)"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", missing)
    assert home_folder() == ""
    assert scrubbed("torch 2") == "torch 2"


def test_values_are_short() -> None:
    assert len(scrubbed("word " * 1000)) == LONGEST


def test_a_probe_that_fails_is_a_line_after_those_that_it_found() -> None:
    def probe() -> Iterator[Line]:
        yield Fact(name="torch", value="9.9")
        raise OSError(2, "No such file", "/home/anna/libcudart.so")

    assert list(lines_of("torch", probe)) == [
        Fact(name="torch", value="9.9"),
        Fact(name="torch", value="not known (FileNotFoundError: [Errno 2] No such file: PATH)"),
    ]


def test_warnings_are_scrubbed_too() -> None:
    def probe() -> Iterator[Line]:
        yield Warned(problem="cannot write '/home/anna'", remedy="set HF_HOME", fatal=True)

    assert list(lines_of("x", probe)) == [Warned(problem="cannot write PATH", remedy="set HF_HOME", fatal=True)]
