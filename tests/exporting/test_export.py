"""Exports: complete or not at all, and errors of one sentence."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from captioner.checkpoint import Checkpoint, save
from captioner.cli import main
from captioner.errors import OutputError, UsageError
from captioner.exporting import TARGETS, Target, export

Written = Callable[[Checkpoint, Path], None]


class Plain:
    """A captioner without weights, since these targets read none."""

    model = types.SimpleNamespace(adapter=None)

    def original(self) -> Any:
        return self


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Callable[[Written], Target]:
    """Return a function that makes a target of a function."""

    def make(write: Written) -> Target:
        module = types.ModuleType("captioner_test_target")
        module.write = write  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(TARGETS, cast(Target, "test"), module.__name__)
        return cast(Target, "test")

    return make


def two_files(checkpoint: Checkpoint, folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")


def test_writes_into_a_new_or_empty_directory(target: Callable[[Written], Target], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "deep" / "new", tmp_path / "empty"):
        assert export(Plain(), out, to=target(two_files)) == out
        assert {path.name for path in out.iterdir()} == {"a", "b"}
        assert [path.name for path in out.parent.iterdir() if "partial" in path.name or "old" in path.name] == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UsageError("no")])
def test_leaves_nothing_behind_an_error(error: Exception, target: Callable[[Written], Target], tmp_path: Path) -> None:
    def fails(checkpoint: Checkpoint, folder: Path) -> None:
        (folder / "a").write_text("a")
        raise error

    expected = OutputError if isinstance(error, OSError) else UsageError
    with pytest.raises(expected):
        export(Plain(), tmp_path / "out", to=target(fails))
    assert not any(tmp_path.iterdir())


FULL = """
import resource, sys, captioner
from captioner.checkpoint import load
model, out, target = sys.argv[1:]
checkpoint = load(model)
resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, 100 << 10))
try:
    captioner.export(checkpoint, out, to=target)
except captioner.CaptionerError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for files")
@pytest.mark.parametrize("to", list(TARGETS))
def test_a_full_disk_is_one_sentence(to: Target, tiny: Callable[..., Checkpoint], tmp_path: Path) -> None:
    for package in {"onnx": ["onnxscript", "onnxruntime"], "transformers": ["transformers"]}.get(to, []):
        pytest.importorskip(package)
    out, model = tmp_path / "out", save(tiny(), tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(model), str(out), to], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(f"OutputError cannot write {out}: "), done.stderr
    assert done.stdout.endswith("; free some space or choose another OUT\n")
    assert not out.exists()


def test_refuses_a_directory_with_files(target: Callable[[Written], Target], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UsageError, match=r"exists already and is not an empty directory; choose another OUT$"):
            export(Plain(), out, to=target(two_files))
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_refuses_an_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown target 'tf'; choose one of .*onnx"):
        export(Plain(), tmp_path / "out", to=cast(Target, "tf"))


def test_every_target_has_its_module() -> None:
    import importlib

    for module in TARGETS.values():
        assert callable(importlib.import_module(module).write)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["export", "shipped", str(tmp_path / "out"), "--to", "onnx"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "no"), str(tmp_path / "new"), "--to", "onnx"]) == 1
    assert "is not a checkpoint directory" in capsys.readouterr().err
