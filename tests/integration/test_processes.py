"""Several processes: sharded models, a process that dies, and resuming with another number of processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from captioner.training.lock import LOCK

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
vision_weights = "random"
precision = "fp32"
workers = 0
[vision]
backbone = "test_convnext"
[preprocess]
size = 32
[decoder]
width = 16
layers = 2
heads = 2
context = 32
dropout = 0.0
self_pattern = "M"
cross_pattern = "M"
[tokenizer]
vocab_size = 300
[[stages]]
epochs = 1
batch_size = 4
cache_features = true
ema = 0.5
[[stages]]
epochs = 2
batch_size = 4
lr = 2e-3
vision = "all"
vision_lr = 1e-3
ema = 0.9
augment = true
"""
# Runs the command line, but at the given step of the run this process is killed, if it is the one of that rank.
MORTAL = """\
import os, signal, sys
from captioner.training import step, trainer

rank, at = sys.argv[1].split(":")
trainer.SAVE_SECONDS = -1
rate, calls = step.set_rate, iter(range(999))

def set_rate(*args):
    if next(calls) == int(at) and os.environ.get("RANK", "0") == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    return rate(*args)

step.set_rate = set_rate
from captioner.cli import main
sys.exit(main(sys.argv[2:]))
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
pytestmark = pytest.mark.slow


@pytest.fixture
def here(toy: Path, tmp_path: Path) -> Path:
    (tmp_path / "toy").symlink_to(toy)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "mortal.py").write_text(MORTAL)
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **more}


def run(here: Path, out: str, *before: str, resume: bool = False, **more: str) -> str:
    """Train to the end and return the output."""
    launcher = list(before) or [sys.executable]
    command = [*launcher, "-m", "captioner", "train", "--data", "toy", "--recipe", "tiny.toml", "--out", out]
    command += ["--resume"] * resume
    done = subprocess.run(
        command, cwd=here, env=environment(**more), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def weights(here: Path, out: str) -> dict[str, Any]:
    state = torch.load(here / out / "state.pt", weights_only=True)
    assert state["position"]["total_step"] == 12
    return {name: state[kind][name] for kind in ("model", "average") for name in state[kind]}


def assert_same_end(here: Path, one: str, other: str) -> None:
    a, b = weights(here, one), weights(here, other)
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=5e-4, rtol=1e-3, msg=lambda said, name=name: f"{name}: {said}")


def test_a_divided_model_learns_what_a_whole_one_does(here: Path) -> None:
    assert run(here, "one") == "one/best\n"
    assert run(here, "divided", *TORCHRUN, ACCELERATE_USE_FSDP="true") == "divided/best\n"  # once, though two ran
    assert_same_end(here, "one", "divided")
    for name in ("best", "last"):
        assert (here / "divided" / name / "model.safetensors").exists()


def test_two_processes_leave_a_folder_in_use_alone(here: Path) -> None:
    """Only one of them asks for the lock, and both end."""
    (here / "busy").mkdir()
    command = [*TORCHRUN, "-m", "captioner", "train", "--data", "toy", "--recipe", "tiny.toml", "--out", "busy"]
    with FileLock(here / "busy" / LOCK):
        done = subprocess.run(
            command, cwd=here, env=environment(), capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode != 0
        assert "captioner: another training is writing to busy; wait for it to end, or choose" in done.stderr
        assert [path.name for path in (here / "busy").iterdir()] == [LOCK]


def mortal(here: Path, out: str, who: str, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "mortal.py", who, "train", "--data", "toy", "--recipe", "tiny.toml", "--out", out]
    return subprocess.Popen(command, cwd=here, env=environment(**more), stderr=subprocess.PIPE, text=True)


def test_a_killed_process_ends_the_run_and_one_alone_goes_on(here: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    each = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [mortal(here, "killed", "1:6", RANK=str(rank), LOCAL_RANK=str(rank), **each) for rank in range(2)]
    assert both[1].wait(timeout=300) == -signal.SIGKILL
    died = time.monotonic()
    said = both[0].communicate(timeout=120)[1]
    assert time.monotonic() - died < 60
    assert both[0].returncode == 1
    assert "captioner: another process of this run has died or hangs (" in said
    assert "repeat the command with --resume" in said
    run(here, "killed", resume=True)
    run(here, "one")
    assert_same_end(here, "one", "killed")


@pytest.mark.parametrize("divided", ["false", "true"])
def test_two_go_on_where_one_was_killed(here: Path, divided: str) -> None:
    one = mortal(here, "killed", "0:6")
    one.communicate(timeout=300)
    assert one.returncode == -signal.SIGKILL
    assert run(here, "killed", *TORCHRUN, resume=True, ACCELERATE_USE_FSDP=divided) == "killed/best\n"
    run(here, "one")
    assert_same_end(here, "one", "killed")
