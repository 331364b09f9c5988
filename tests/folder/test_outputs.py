"""An earlier command's captions, which another command in the folder writes first or leaves in the journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import OutputError
from captioner.folder.writers import sidecars, tables

from .conftest import Go
from .test_run import files, stopped_after


def full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_another_command_discards_no_caption_that_it_cannot_write(
    go: Go, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(photos, 2, "coco")
    with monkeypatch.context() as broken:
        broken.setattr(tables, "replace_file", full_disk)
        for _ in range(2):
            with pytest.raises(OutputError, match=r"cannot write .*coco.json: the disk is full; .*; fix this and rep"):
                go("txt")
    assert files(photos) == [".captioner.journal"], "the lock is released, and nothing else begun"
    go("coco")
    assert go.said == ["3.png", "10.png"]  # type: ignore[attr-defined]
    assert len(json.loads((photos / "captions.coco.json").read_text())) == 4


def test_another_command_writes_what_an_earlier_one_could_not(
    go: Go, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sidecars, "replace_file", full_disk)
        go("txt", template="first {caption}")
        with pytest.raises(OutputError, match=r"an earlier command, .*1.txt: the disk is full.*[(]3 more"):
            go("jsonl")
    go("jsonl")
    assert (photos / "1.txt").read_text() == "first photo 1.png\n"
    assert files(photos) == ["1.txt", "2.txt", "captions.jsonl", "more/10.txt", "more/3.txt"]
