"""Files of a checkpoint are regular, bounded and shallow; anything else is one sentence, and nothing blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from captioner.checkpoint import locate
from captioner.checkpoint.files import fingerprint, read_json, read_shapes, read_text, read_weights
from captioner.checkpoint.locate import find_base
from captioner.errors import CheckpointError

READERS: list[Callable[[Path], Any]] = [read_json, read_text, read_weights, read_shapes, fingerprint]


def refused(read: Callable[[Path], Any], path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("make", [pipe, endless, folder, circle])
@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_not_read(
    read: Callable[[Path], Any], make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    make(path)
    refused(read, path, "regular file|symbolic links|Symlink loop")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """The hub's cache consists of symlinks."""
    (tmp_path / "blob").write_text('{"a": 1}')
    (tmp_path / "config.json").symlink_to(tmp_path / "blob")
    assert read_json(tmp_path / "config.json") == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["[" * 1000 + "]" * 1000, "[" * 10**6, '{"a":' * 1000 + "1" + "}" * 1000, '{"a": ' + "[" * 65 + "]" * 65 + "}"],
)
def test_json_that_is_nested_too_deep(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    refused(read_json, path, "nested more than 64 levels deep|is not valid JSON")


def test_json_of_a_usual_depth_is_read(tmp_path: Path) -> None:
    values: Any = 1
    for _ in range(20):
        values = {"a": [values]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_json(tmp_path / "config.json") == values


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": ' + "1" * 5000 + "}")
    refused(read_json, tmp_path / "config.json", "is not valid JSON")


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:  # sparse
        file.truncate(1 << 40)
    refused(read_json, path, "it is longer than 16 MiB")
    refused(lambda path: read_text(path, most=1 << 20), path, "it is longer than 1 MiB")


def test_shapes_are_read_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, path)
    assert read_shapes(path) == {"a": (2, 3), "b": ()}


def test_an_adapter_of_the_hub_names_its_base_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(locate, "download", lambda name, wanted: asked.append(name) or tmp_path)
    monkeypatch.setattr(locate, "SHIPPED", tmp_path)
    (tmp_path / "config.json").write_text('{"format": 1}')
    for name in ("org/name", "org/name@main"):
        assert find_base(name, fetched=True) == tmp_path
    assert asked == ["org/name", "org/name", "org/name@main", "org/name@main"]  # each one's config.json first
    assert find_base("shipped", fetched=True) == tmp_path
    assert find_base(str(tmp_path)) == tmp_path
    for name in (str(tmp_path), "..", "../../x", "~/x", "https://example.org/x", "file:///etc", "\\\\host\\share", ""):
        with pytest.raises(CheckpointError, match="is not a hub id"):
            find_base(name, fetched=True)
