"""Two processes train the same adapter as one alone, including its penalty and its ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """\
vision_weights = "random"
precision = "fp32"
workers = 0
[vision]
backbone = "test_vit"
[preprocess]
size = 32
[decoder]
width = 16
layers = 1
heads = 2
context = 32
dropout = 0.0
[tokenizer]
vocab_size = 300
[[stages]]
epochs = 4
batch_size = 8
accumulate = 2
lr = 5e-3
ema = 0.9
"""
SCRIPT = """\
import sys
from dataclasses import replace
from pathlib import Path
from captioner.checkpoint import load
from captioner.config import AdapterConfig
from captioner.training.adapting import with_adapter
from captioner.training.recipe import load_recipe
from captioner.training.setup import read_data
from captioner.training.trainer import Trainer

here, out, method = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4]
recipe = load_recipe(str(here / "recipe.toml"))
data = read_data([sys.argv[3]], validation_images=4, report=print)
adapter = AdapterConfig(method=method, rank=2, length=3)
recipe, start = with_adapter(replace(recipe, adapter=adapter), load(here / "base"), adapter)
Trainer(recipe, data, start, out, log_every=1).run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adalora", "prefix"])
def test_two_processes_equal_one(toy: Path, tmp_path: Path, method: str) -> None:
    import torch
    from safetensors.torch import load_file

    from captioner.checkpoint import save
    from captioner.training.recipe import load_recipe
    from captioner.training.setup import new_captioner, read_data

    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "run.py").write_text(SCRIPT)
    recipe = load_recipe(str(tmp_path / "recipe.toml"))
    save(new_captioner(recipe, read_data([str(toy)], validation_images=4, report=print)), tmp_path / "base")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    launch = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
    logs, weights = {}, {}
    for name, launcher in launch.items():
        given = [str(tmp_path / "run.py"), str(tmp_path), str(tmp_path / name), str(toy), method]
        command = [sys.executable, *launcher, *given]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        logs[name] = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        (file,) = (tmp_path / name / "last" / "adapter").glob("*.safetensors")
        weights[name] = load_file(file)
    assert sum(record["kind"] == "train" for record in logs["one"]) > 6
    for alone, together in zip(logs["one"], logs["two"], strict=True):
        for figure in ("step", "loss", "gradient_norm", "token_nll"):
            assert together.get(figure) == pytest.approx(alone.get(figure), abs=1e-4), (alone, together)
    for name, value in weights["one"].items():
        torch.testing.assert_close(weights["two"][name], value, atol=1e-4, rtol=1e-3)
        assert (value == 0).equal(weights["two"][name] == 0)  # the same directions are given up
