"""The shipped model's checksum, and cache folders that can or cannot be written."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import PackagePath
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from captioner.checkpoint import files as checkpoint_files
from captioner.checkpoint.files import SHIPPED, WEIGHTS
from captioner.doctor import files
from captioner.doctor.lines import Fact, Line, Warned


def facts(lines: list[Line]) -> dict[str, str]:
    return {line.name: line.value for line in lines if isinstance(line, Fact)}


def warnings(lines: list[Line]) -> list[Warned]:
    return [line for line in lines if isinstance(line, Warned)]


def test_the_shipped_model_has_its_checksum() -> None:
    digest = hashlib.sha256((SHIPPED / WEIGHTS).read_bytes()).hexdigest()
    found = list(files.model())
    assert f"MB, SHA-256 {digest[:16]}, " in facts(found)["shipped model"]
    assert not warnings(found)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoint_files, "SHIPPED", tmp_path)
    for name in ("config.json", "generation.json", "tokenizer.json", WEIGHTS):
        (tmp_path / name).write_text("content")
    return tmp_path


@pytest.mark.parametrize(("recorded", "verdict"), [(b"content", "as packaged"), (b"other", "changed")])
def test_the_checksum_is_compared_with_the_record(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, recorded: bytes, verdict: str
) -> None:
    value = base64.urlsafe_b64encode(hashlib.sha256(recorded).digest()).decode().rstrip("=")
    entry = PackagePath(shipped / WEIGHTS)
    entry.hash, entry.dist = SimpleNamespace(mode="sha256", value=value), SimpleNamespace(locate_file=lambda path: path)
    record: Any = SimpleNamespace(files=[PackagePath("captioner/__init__.py"), entry])
    monkeypatch.setattr(files, "distribution", lambda name: record)
    found = list(files.model())
    assert facts(found)["shipped model"].endswith(verdict)
    assert len(warnings(found)) == (verdict == "changed")


def test_a_missing_model_is_fatal(shipped: Path) -> None:
    (shipped / WEIGHTS).unlink()
    found = warnings(list(files.model()))
    assert [(warning.fatal, warning.problem) for warning in found] == [(True, f"the shipped model lacks {WEIGHTS}")]


def test_caches_with_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "captioner" / "deep").mkdir(parents=True)
    (tmp_path / "captioner" / "deep" / "model").write_bytes(b"x" * 2_000_000)
    (tmp_path / "captioner" / "link").symlink_to(tmp_path / "captioner" / "deep" / "model")
    found = list(files.caches())
    assert facts(found) == {
        "hub cache": "$HF_HOME/hub, empty, writable",
        "converted models": "$HF_HOME/captioner, 2.0 MB, writable",
        "tables of shards": "$HF_HOME/xdg/captioner, empty, writable",
    }
    assert not warnings(found)
    assert not (tmp_path / "hub").exists(), "the report makes no folder"
    assert not (tmp_path / "xdg").exists()


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = warnings(list(files.caches()))
    assert len(found) == 3
    assert all("not writable (not a directory)" in warning.problem for warning in found)
    assert all(str(tmp_path) not in warning.problem for warning in found)


def test_a_folder_is_named_without_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert files._named(tmp_path / ".cache" / "hub") == "~/.cache/hub"
    assert files._named(tmp_path.parent / "anna") == "another folder"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path.parent / "anna"))
    assert files._named(tmp_path.parent / "anna") == "$HF_HUB_CACHE"


def test_a_large_cache_is_not_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(files, "SECONDS", -1.0)
    assert files._size(tmp_path) == "more than 0.0 GB"
