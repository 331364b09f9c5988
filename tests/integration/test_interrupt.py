"""Ctrl-C in a terminal reaches every process of the run at once, including its loaders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="process groups are of another kind there")
def test_ctrl_c_in_a_terminal(toy: Path, tmp_path: Path) -> None:
    settings = ["workers=2", "precision=fp32", "stages.0.epochs=100000", "preprocess.size=64"]
    command = [sys.executable, "-m", "captioner", "train", "--data", str(toy), "--recipe", "toy"]
    command += ["--out", str(tmp_path / "run"), *(word for setting in settings for word in ("--set", setting))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=err, start_new_session=True)
        try:
            deadline = time.monotonic() + 300
            while b"\ntrain 50:" not in (tmp_path / "err").read_bytes() and time.monotonic() < deadline:
                assert process.poll() is None, (tmp_path / "err").read_text()
                time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=120) == 130
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    lines = (tmp_path / "err").read_text().splitlines()
    assert lines[-1].startswith("captioner: stopped after step ")
    assert lines[-1].endswith("; repeat the command with --resume")
    assert not any("Traceback" in line for line in lines)
    assert (tmp_path / "run" / "state.pt").exists()
