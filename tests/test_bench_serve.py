"""The benchmark of the server runs; it fails if a caption differs from the folder's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_benchmark_prints_its_table(learnt: Path) -> None:
    line = [sys.executable, str(ROOT / "scripts" / "bench_serve.py"), "--model", str(learnt), "--seconds", "2"]
    line += ["--clients", "8", "--rounds", "1", "--copies", "2", "--sizes", "64", "300", "--batch", "8"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, env=environ, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert cells[0] == "8"
    assert float(cells[1]) > 0
    assert float(cells[2]) > 0


@pytest.mark.slow
def test_the_benchmark_compares_settings(learnt: Path) -> None:
    line = [sys.executable, str(ROOT / "scripts" / "bench_serve.py"), "--model", str(learnt), "--seconds", "1"]
    line += ["--copies", "1", "--sizes", "64", "--settings", "2:4:0", "8:4:20"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, env=environ, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("|").split("|") for line in done.stdout.splitlines()[2:]]
    assert [[cell.strip() for cell in row[:3]] for row in rows] == [["2", "4", "0 ms"], ["8", "4", "20 ms"]]
    assert all(float(row[3]) > 0 for row in rows)
