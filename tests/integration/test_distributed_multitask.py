"""Two processes use each other's images as negatives, like one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Hard negatives for matching are drawn, and each process draws from its own images: of that no two runs are the same.
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
cross_pattern = "M"
[tokenizer]
vocab_size = 300
[[stages]]
task = "multitask"
epochs = 4
batch_size = 7
lr = 5e-3
vision = "all"
ema = 0.9
clip = 0.0
[stages.options]
width = 8
tags = 4
matching = MATCHING
"""
SCRIPT = """\
import sys
from pathlib import Path
from captioner.training import trainer
from captioner.training.recipe import load_recipe
from captioner.training.setup import new_captioner, read_data
from captioner.training.tasks import TASKS

here, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = load_recipe(str(here / "recipe.toml"))
data = read_data([sys.argv[3]], validation_images=4, report=print)
start = new_captioner(recipe, data)
TASKS["multitask"].equip(recipe, recipe.stages[0], data, start)
trainer.Trainer(recipe, data, start, out, log_every=1).run()
"""


def run_both(toy: Path, here: Path, *, matching: bool) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    (here / "recipe.toml").write_text(RECIPE.replace("MATCHING", str(matching).lower()))
    (here / "run.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    found = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        out = here / f"run-{len(launcher)}"
        command = [sys.executable, *launcher, str(here / "run.py"), str(here), str(out), str(toy)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append([json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()])
    return found[0], found[1]


@pytest.mark.slow
def test_two_processes_equal_one(toy: Path, tmp_path: Path) -> None:
    """Losses, gradients and learned weights are equal, for batches of unequal sizes."""
    one, two = run_both(toy, tmp_path, matching=False)
    assert [(r["kind"], r["step"]) for r in one] == [(r["kind"], r["step"]) for r in two]
    steps = [r for r in one if r["kind"] == "train"]
    assert len(steps) > 6
    assert {"caption", "contrastive", "tags", "weight_contrastive"} <= steps[0].keys()
    names = ("loss", "caption", "contrastive", "tags", "gradient_norm", "weight_contrastive", "weight_caption")
    figures = (*names, "token_nll", "caption_recall1", "image_recall5")
    for alone, together in zip(one, two, strict=True):
        for figure in figures:
            assert together.get(figure) == pytest.approx(alone.get(figure), abs=2e-4), (figure, alone, together)


@pytest.mark.slow
def test_matching_works_in_two_processes(toy: Path, tmp_path: Path) -> None:
    """The first step's other losses equal those of one process; matching starts at chance in both."""
    one, two = run_both(toy, tmp_path, matching=True)
    first = [next(r for r in run if r["kind"] == "train") for run in (one, two)]
    for figure in ("caption", "contrastive", "tags"):
        assert first[1][figure] == pytest.approx(first[0][figure], abs=2e-4)
    assert [run["matching"] for run in first] == pytest.approx([0.69, 0.69], abs=0.15)
    assert [(r["kind"], r["step"]) for r in one] == [(r["kind"], r["step"]) for r in two]
