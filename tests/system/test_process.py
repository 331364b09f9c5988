"""Captions do not depend on other settings of the process: torch's defaults, and forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captioner.system.process import plain_defaults
from captioner.training.tasks import Data

DEFAULTS = """
import sys, torch, captioner
model, change, *photos = sys.argv[1:]

def said(pipe):
    drawn = pipe.caption(photos[0], temperature=1.0, top_k=40, min_p=0.001, seed=3).text
    ruled = pipe.caption(photos[0], beams=3, bias={"a": 0.1}, no_repeat_ngram=2).text
    return [*map(str, pipe.caption(photos, beams=3)), drawn, ruled, *pipe.score(photos[0], ["a circle", "a"])]

def loaded():
    return [captioner.load(model, device="cpu", precision=precision) for precision in ("fp32", "int8")]

pipes = loaded()
before = [said(pipe) for pipe in pipes]
exec(change)
assert [said(pipe) for pipe in pipes] == before
assert [said(pipe) for pipe in loaded()] == before
"""

FORKED = """
import multiprocessing, sys, threading, torch, captioner
model, *photos = sys.argv[1:]
torch.set_num_threads(2)
pipe = captioner.load(model, device="cpu", precision=photos.pop())
said = list(map(str, pipe.caption(photos)))
torch.randn(1000, 1000).exp().sum()  # two threads in torch, too

def again():
    assert list(map(str, pipe.caption(photos))) == said
    torch.randn(1000, 1000).exp().sum()

def child():
    again()
    thread = threading.Thread(target=again)  # as servers have
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 1

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(40)
process.kill()
assert process.exitcode == 0, process.exitcode
again()
assert torch.get_num_threads() == 2
"""


def run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def photos(data: Data) -> list[str]:
    return [str(sample.path) for sample in data.train[:3]]


@pytest.mark.parametrize(
    "change",
    ["torch.set_default_dtype(torch.bfloat16)", "torch.set_default_device('meta')"],
)
def test_torchs_defaults_change_no_caption(change: str, learnt: Path, photos: list[str]) -> None:
    """A regression test: the compiled step wrote fp32 into bf16 buffers, and to null addresses."""
    run(DEFAULTS, str(learnt), change, *photos)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_forked_child_captions(precision: str, learnt: Path, photos: list[str]) -> None:
    """A regression test: the child waited for threads of its parent for ever."""
    run(FORKED, str(learnt), *photos, precision)


def test_defaults_come_back() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            with plain_defaults():
                made = torch.zeros(1)
            assert torch.zeros(1).device.type == "meta"
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (made.dtype, made.device.type) == (torch.float32, "cpu")
