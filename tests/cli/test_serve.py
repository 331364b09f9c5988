"""The serve command: its settings, and the mistakes that it names."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captioner.cli import _parser as parser
from captioner.cli import main, serve
from captioner.cli.arguments import parsed
from captioner.errors import UsageError


def options(*arguments: str) -> serve.Options:
    return parsed(serve.Options, vars(parser().parse_args(["serve", *arguments])))


def settings(*arguments: str) -> Any:
    return serve._settings(options(*arguments))


def test_the_defaults_are_those_of_the_limits() -> None:
    from captioner.serving.settings import Limits, Settings

    assert settings() == Settings(limits=Limits())


def test_options_reach_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(serve.KEY, "from-environment")
    found = settings(
        "--wait", "20", "--max-body", "100", "--queue", "8", "--cors", "https://a.b", "--root", str(tmp_path)
    )
    assert (found.limits.wait, found.limits.body, found.limits.bodies) == (0.02, 100 << 20, 800 << 20)
    assert (found.limits.queue, found.limits.photos) == (8, 8)
    assert (found.origins, found.root, found.key) == (("https://a.b",), str(tmp_path), "from-environment")
    assert settings("--api-key", "given").key == "given"
    assert "given" not in repr(settings("--api-key", "given")), "a key does not appear in a traceback"


def test_options_of_all_captions(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("gun\n")
    found = settings("--neutral", "--unsure", "0.62", "--forbid-file", str(tmp_path / "words.txt"), "--forbid", "blood")
    assert found.generation == {"neutral": True, "unsure": 0.62, "forbid": ["blood", "gun"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--root", "/nowhere"], "not a folder"),
        (["--api-key", ""], "the key is empty"),
        (["--api-key", "a\nb"], "the key is empty"),
        (["--idle-unload", "nan"], "minutes"),
        (["--idle-unload", "-1"], "minutes"),
        (["--replicas", "2"], "add --ray"),
        (["--ray", "local", "--idle-unload", "3"], "leave out --idle-unload"),
        *(
            (["--ray", "local", "--replicas", wrong], "--replicas is a number")
            for wrong in ("0", "3:2", "x", "1:", "257", "0:0")
        ),
        (["--ray", "local", "--replica-cpus", "nan"], "--replica-cpus"),
    ],
)
def test_wrong_options(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        serve._scale(options(*arguments)), settings(*arguments)


def test_the_copies_on_a_cluster() -> None:
    from captioner.serving.replicas import Scale

    assert serve._scale(options()) is None
    assert serve._scale(options("--ray", "local")) == Scale(address="local")
    found = serve._scale(options("--ray", "head:1", "--replicas", "0:8", "--replica-cpus", "0.5"))
    assert found == Scale(address="head:1", least=0, most=8, cpus=0.5)


def test_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert main(["serve", "--port", "99999"]) == 1
    assert main(["serve", "--host", "no.such.host.invalid"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("choose another --host or --port") for line in (lines[0], lines[1], lines[3]))
    assert lines[2].startswith("captioner: warning: anyone who reaches no.such.host.invalid:8000")


def test_a_model_that_does_not_exist(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "captioner", "serve", "--port", "0", "--model", str(tmp_path / "none")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("captioner: ")
    assert "none" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert serve._is_loopback(host) == loopback
