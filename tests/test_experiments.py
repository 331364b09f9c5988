"""The experiments of scripts/experiments can run: every row's recipe, settings and start exist."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
EXPERIMENTS = ("attention", "attention_variants", "evidence", "left_out", "objectives")


@pytest.fixture
def experiments(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    sys.modules.pop("run_experiments", None)
    import run_experiments

    return run_experiments


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_row_can_be_built(experiments, name):
    experiment = experiments.read(SCRIPTS / "experiments" / f"{name}.toml")
    rows = experiment.rows
    assert rows
    assert experiment.seeds
    assert experiment.penalties
    assert experiment.dev
    for row in rows.values():
        assert row.trains.stages
        if row.after is None:  # from random weights: the backbone's have to be named
            assert row.trains.vision_weights.startswith(("package:", "{shared}/"))
    places = {experiments.place_of(row, 1, Path("out")) for row in rows}
    assert len(places) == len(rows)


def test_rows_of_the_attention_experiment_have_equal_parameters(experiments):
    rows = experiments.read(SCRIPTS / "experiments" / "attention.toml").rows
    counts = [experiments.parameters(row.trains) for row in rows.values()]
    assert max(counts) - min(counts) <= 0.001 * max(counts)


def test_a_row_comes_after_one_above_it(experiments, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('recipe = "flickr8k"\nseeds = [1]\n[rows.tuned]\nafter = "base"\n[rows]\nbase = []\n')
    with pytest.raises(SystemExit, match="has after = 'base', which is not a row above it"):
        experiments.read(path)


def test_a_following_row_starts_from_the_best_weights_of_its_seed(experiments, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(experiments, "captioner", lambda command: asked.append(command) and 0)
    monkeypatch.setattr(experiments, "held_out_in", lambda row, shared: ["a.jpg"])
    rows = experiments.read(SCRIPTS / "experiments" / "objectives.toml").rows
    name = "then self-critical"
    experiments.run(rows[name], 3, tmp_path, experiments.place_of(name, 3, tmp_path), tmp_path / "features")
    (command,) = asked
    assert command[0] == "finetune"
    assert command[command.index("--model") + 1] == str(tmp_path / "cross-entropy-3" / "best")
    assert command[-1] == "seed=3"
