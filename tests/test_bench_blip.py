"""The benchmark of BLIP runs, and fails if the two sides write different tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_blip.py"


@pytest.mark.slow
def test_every_row_of_a_tiny_model() -> None:
    rows = ["--size", "tiny", "--repeats", "1", "--threads", "1"]
    done = subprocess.run([sys.executable, SCRIPT, *rows], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for what in (
        "caption, beam 3, 20 tokens, batch 1, fp32",
        "answer, greedy, 10 tokens, batch 8, int8",
        "peak memory",
    ):
        assert any(what in line for line in table)
    assert sum("multiply-adds a second" in line for line in done.stdout.splitlines()) == 3
