"""Two processes together learn the same as one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# ConvNeXt keeps a norm for its head that no caption depends on: trained, it would make DDP wait for its gradient.
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
layers = 1
heads = 2
context = 32
dropout = 0.0
self_pattern = "M"
cross_pattern = "M"
[tokenizer]
vocab_size = 300
[[stages]]
task = "language_model"
epochs = 1
batch_size = 8
[[stages]]
epochs = 1
batch_size = 8
cache_features = true
[[stages]]
epochs = 2
batch_size = 8
accumulate = 2
lr = 2e-3
vision = "all"
vision_lr = 1e-3
ema = 0.9
augment = true
"""
SCRIPT = """\
import sys
from pathlib import Path
from captioner.training.recipe import load_recipe
from captioner.training.setup import new_captioner, read_data
from captioner.training.trainer import Trainer

here, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = load_recipe(str(here / "recipe.toml"))
data = read_data([sys.argv[3]], text=[str(here / "text.txt")], validation_images=8, report=print)
Trainer(recipe, data, new_captioner(recipe, data), out, log_every=1).run()
"""


# Draws, captions of other images and the losses of both phases are the same, however the images are dealt out.
OBJECTIVES = (
    RECIPE[: RECIPE.index("[[stages]]")]
    + """\
[generation]
max_tokens = 12
[[stages]]
task = "distillation"
epochs = 1
batch_size = 8
ema = 0.9
[[stages]]
task = "self_critical"
epochs = 1
batch_size = 8
cache_features = true
[[stages]]
task = "adversarial"
epochs = 2
batch_size = 8
lr = 2e-3
vision = "all"
vision_lr = 1e-3
ema = 0.9
[stages.options]
head_start = 2
discriminator_lr = 1e-4
"""
)
FIGURES = {
    "caption objectives": ("loss", "nll", "gradient_norm", "lr", "token_nll", "cider_d"),
    "objectives with teachers, draws and adversaries": (
        *("loss", "gradient_norm", "kl", "reward", "believed", "token_nll"),
        *("discriminator_loss", "discriminator_gradient_norm"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("figures", "recipe"), list(zip(FIGURES, (RECIPE, OBJECTIVES), strict=True)))
def test_two_processes_equal_one(toy: Path, tmp_path: Path, figures: str, recipe: str) -> None:
    (tmp_path / "recipe.toml").write_text(recipe)
    (tmp_path / "text.txt").write_text("".join(f"line {n} of {'many ' * (n % 7)}words\n" for n in range(40)))
    (tmp_path / "run.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    launch = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
    found = {}
    for name, launcher in launch.items():
        command = [sys.executable, *launcher, str(tmp_path / "run.py"), str(tmp_path), str(tmp_path / name), str(toy)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        found[name] = [json.loads(line) for line in lines]
    one, two = found["one"], found["two"]
    assert [(r["kind"], r["step"]) for r in one] == [(r["kind"], r["step"]) for r in two]
    assert sum(r["kind"] == "train" for r in one) >= 8
    assert all(any(figure in r for r in one) for figure in FIGURES[figures])
    for alone, together in zip(one, two, strict=True):
        assert alone.keys() == together.keys()
        for figure in set(FIGURES[figures]) & alone.keys():
            assert together[figure] == pytest.approx(alone[figure], abs=1e-4, rel=2e-3), (alone, together)
