"""The benchmark of compression prints a row for each variant, and the student of the tiny captioner can be built."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.checkpoint import load, save
from captioner.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_row_for_each_variant(learnt: Path, toy: Path, tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "bench_compression.py")
    rows = ["fp16", "int4", "int8-run", "0.8"]
    options = ["--data", str(toy), "--split", "dev", "--model", str(learnt), "--images", "2", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, script, str(tmp_path), *options, "--rows", *rows, "--tiny", str(learnt / "best")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows) + 1
    assert all(line.count("|") == 8 for line in lines)


def test_a_student_has_the_teachers_eyes(bilingual: Path, tmp_path: Path) -> None:
    program = runpy.run_path(str(ROOT / "examples" / "tiny" / "student.py"))
    teacher = load(bilingual / "best")
    labels = program["frequent_labels"](teacher, ["a red circle", "a star", "another star", "a square"], 2)
    assert teacher.config.labels is not None
    assert len(labels) == 2
    assert teacher.config.labels.words.index("star") in labels
    student = program["make_student"](teacher, labels, width=16, layers=1, heads=1)
    for name, value in teacher.model.vision.backbone.state_dict().items():
        assert (student.model.vision.backbone.state_dict()[name] == value).all()
    assert student.config.labels is not None
    assert student.config.labels.words == tuple(teacher.config.labels.words[n] for n in labels)
    again = load(save(student, tmp_path / "student", dtype="int4"))
    assert again.config.decoder.width == 16
    assert again.tokenizer.to_json() == teacher.tokenizer.to_json()


def test_the_recipe_of_the_tiny_captioner_is_valid() -> None:
    recipe = load_recipe(str(ROOT / "examples" / "tiny" / "distil.toml"))
    assert recipe.stages[0].task == "distillation"
    assert recipe.stages[0].cache_features
