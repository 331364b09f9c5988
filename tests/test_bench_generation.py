"""The benchmark runs, and fails if the two sides write different tokens."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_generation.py"


@pytest.mark.slow
def test_every_row_of_a_tiny_model() -> None:
    rows = ["--tiny", "--repeats", "1", "--images", "8", "--threads", "1"]
    done = subprocess.run([sys.executable, SCRIPT, *rows], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for what in ("greedy, batch 1", "beam 5, batch 8", "peak memory", "folder of 8 photos", "cold start"):
        assert any(what in line for line in table)
    assert sum("of the limit" in line for line in done.stdout.splitlines()) == 5


def test_other_tokens_in_fp32_are_no_result(tmp_path: Path) -> None:
    import torch

    parts = runpy.run_path(str(SCRIPT))
    parts["make_model"](str(tmp_path), tiny=True)
    peer, ours = parts["Peer"](str(tmp_path)), parts["Ours"](str(tmp_path), "fp32")
    pixels = torch.randn(2, 3, 224, 224)
    assert peer.write(pixels, 3) == ours.write(pixels, 3)
    with torch.no_grad():
        peer.model.decoder.transformer.ln_f.bias += 1.0
    with pytest.raises(SystemExit, match="differ in fp32"):
        parts["against"](peer, ours, 3, 2, 1.0, 1)
