"""The log of a run."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import TrainingError
from captioner.training.log import RunLog


def test_a_record_is_a_line_in_the_file_and_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "run")
    log.record("train", total_step=7, stage=1, loss=1.23456)
    log.close()
    again = RunLog(tmp_path / "run")  # a resumed run appends to the same file
    again.record("validation", total_step=8, bleu4=20.0)
    again.close()
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["kind"], first["step"], first["stage"], first["loss"]) == ("train", 7, 1, 1.23456)
    assert second["bleu4"] == 20.0
    assert capsys.readouterr().err == "train 7: stage 1, loss 1.235\nvalidation 8: bleu4 20\n"


def test_the_other_processes_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "run", active=False)
    log.record("train", total_step=7, loss=1.0)
    log.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == ""


def test_without_tensorboard_the_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "torch.utils.tensorboard":
            raise ImportError("TensorBoard is not installed")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    log = RunLog(tmp_path)
    log.record("train", total_step=1, loss=1.0)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write to .*file.*; choose another --out"):
        RunLog(tmp_path / "file" / "run")
    log = RunLog(tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"cannot write the log of the run in .*; free some space and repeat the"):
        log.record("train", total_step=1)
