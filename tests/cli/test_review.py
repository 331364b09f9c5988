"""`captioner review`: its options, its address, and what it says without its packages."""

from __future__ import annotations

import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner import errors
from captioner.cli import main

serving = pytest.importorskip("captioner.reviewing.serve")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    return tmp_path


def test_the_address_is_of_this_machine_and_random(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from captioner.reviewing.asking import NONE, Asked
    from captioner.reviewing.shelf import Shelf

    addresses: list[str] = []
    told = threading.Event()

    def report(address: str) -> None:
        addresses.append(address)
        told.set()

    arguments = {"port": 0, "report": report}
    thread = threading.Thread(
        target=serving.serve, args=(Shelf(str(folder)), Asked(NONE)), kwargs=arguments, daemon=True
    )
    thread.start()
    assert told.wait(60)
    [address] = addresses
    assert address.startswith("http://127.0.0.1:")
    assert len(address.split("/")[3]) == 32
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"<h1>Review captions" in answer.read()


def test_options(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {}

    def serve(shelf: Any, asked: Any, **more: Any) -> None:
        found.update(more, outputs=shelf.sources.outputs, model=asked.available)
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", serve)
    assert main(["review", str(folder), "--write", "txt,jsonl", "--model", "none", "--port", "8765"]) == 0
    assert (found["outputs"], found["model"], found["port"]) == (("txt", "jsonl"), False, 8765)
    assert "1 photos; open the address" in capsys.readouterr().err


def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(folder / "1.png")]) == 1
    assert "is not a folder; name a folder of photos" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["review", str(folder), "--port", str(taken.getsockname()[1])]) == 1
    assert "give another --port" in capsys.readouterr().err
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert main(["review", str(folder)]) == 1
    assert "pip install 'captioner[serve]'" in capsys.readouterr().err
