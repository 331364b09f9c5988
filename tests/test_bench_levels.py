"""The benchmarks of levels and of products print their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from captioner.native.library import levels, library

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
pytestmark = pytest.mark.slow


def lines(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("|")]


@pytest.mark.skipif("avx2" not in levels(), reason="this CPU has no AVX2, or the library is not built")
def test_a_column_for_each_level() -> None:
    options = ["--tiny", "--levels", "avx2", "torch", "--rows", "decoding", "--repeats", "1", "--threads", "1"]
    header, _, *rows = lines(str(SCRIPTS / "bench_levels.py"), *options)
    assert header == "| | avx2 | torch |"
    assert len(rows) == 5
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:4])


def test_a_row_for_each_product() -> None:
    pytest.importorskip("onnxruntime")
    header, _, *rows = lines(str(SCRIPTS / "bench_products.py"), "--rows", "1", "3", "--threads", "1")
    assert header == "| rows | 1 | 3 |"
    names = {row.split("|")[1].strip() for row in rows}
    assert {"torch, fp32", "FBGEMM, int8", "ONNX Runtime, int8"} <= names
    assert ("library, int8" in names) == (library() is not None)
