"""One training at a time in a folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from captioner.errors import UsageError
from captioner.training import lock as locks
from captioner.training import run, trainer
from captioner.training.lock import LOCK, only_run
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data

ROOT = Path(__file__).resolve().parents[2]
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.0)


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """The second command starts before the first state, or resumes the running one after it."""
    plan, out = recipe({"epochs": 1}), tmp_path / "run"
    begin, refused = trainer.Trainer._begin, []

    def start_another(self: Any, task: Any) -> None:
        begin(self, task)
        if (out / "state.pt").exists() is resume:
            before = listing(out)
            assert str(out / LOCK) in before
            with pytest.raises(UsageError) as error:
                train(plan, data, out, resume=resume)
            refused.append(str(error.value))
            assert listing(out) == before

    monkeypatch.setattr(trainer.Trainer, "_begin", start_another)
    train(replace(plan, stages=plan.stages * 2), data, out)
    assert refused == [
        f"another training is writing to {out}; wait for it to end, or choose another --out (if none is running on any "
        f"machine, delete {out / LOCK})"
    ]
    assert not list(tmp_path.rglob(f"*{LOCK}*"))
    train(replace(plan, stages=plan.stages * 2), data, out, resume=True)


def test_a_run_that_fails_frees_its_folder(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "_epoch", press)
        with pytest.raises(KeyboardInterrupt):
            train(recipe({"epochs": 1}), data, tmp_path)
    assert not (tmp_path / LOCK).exists()
    train(recipe({"epochs": 1}), data, tmp_path, resume=True)


def test_a_run_that_another_one_has_overtaken_replaces_nothing(
    recipe: MakeRecipe, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run begins and ends between the first look at the folder and the lock."""
    other, plan, make = tmp_path / "out", recipe({"epochs": 1}), run.new_captioner

    def overtaken(*given: Any) -> Any:
        monkeypatch.setattr(run, "new_captioner", make)
        train(plan, data, other)
        return make(*given)

    monkeypatch.setattr(run, "new_captioner", overtaken)
    with pytest.raises(UsageError, match="already holds a run; repeat the command with --resume"):
        train(plan, data, other)
    assert not (other / LOCK).exists()


def test_only_the_main_process_holds_the_lock(tmp_path: Path) -> None:
    with only_run(tmp_path / "new", main=False):
        assert not (tmp_path / "new").exists()
    with only_run(tmp_path / "new", main=True), only_run(tmp_path / "new", main=False):
        assert [path.name for path in (tmp_path / "new").iterdir()] == [LOCK]
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.EROFS, errno.EACCES])
def test_a_folder_without_locks_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def cannot(self: FileLock, timeout: float) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", cannot)
    with only_run(tmp_path, main=True), only_run(tmp_path, main=True):
        pass


def test_a_folder_that_cannot_be_made_is_left_to_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with only_run(tmp_path / "file" / "out", main=True):
        pass


HOLD = """\
import sys, time
from pathlib import Path
from captioner.training.lock import only_run
with only_run(Path(sys.argv[1]), main=True):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UsageError, match="another training is writing to"), only_run(tmp_path, main=True):
                pass
        finally:
            other.kill()
    with only_run(tmp_path, main=True):
        pass
