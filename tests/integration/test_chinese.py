"""Captions in a language without spaces, from end to end: training, captioning, evaluation, streaming."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.checkpoint import Checkpoint, load
from captioner.cli import main
from captioner.metrics.words import characters
from captioner.pipelines import CaptionPipeline
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import read_data
from captioner.training.tasks import Data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw 12 pictures with Chinese captions."""
    out = tmp_path_factory.mktemp("chinese")
    draw = runpy.run_path(str(ROOT / "datasets" / "toy" / "prepare.py"))["draw"]
    draw(out, images=12, seed=3, language="zh")
    return out


@pytest.fixture(scope="module")
def run(chinese: Path, recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a captioner that overfits its six training pictures, one caption each."""
    found = read_data([str(chinese)], validation_images=4, report=print)
    data = tuple(replace(sample, captions=sample.captions[:1]) for sample in found.train[:6])
    plan = recipe(
        {"epochs": 150, "batch_size": 6, "lr": 4e-3, "vision": "all", "vision_lr": 2e-3, "weight_decay": 0.0},
        tokenizer={"words": "characters", "vocab_size": 400},
        decoder={"context": 40},
        captions_per_image=1,
    )
    plan = replace(plan, stages=(replace(plan.stages[0], validate_every=150),))
    out = tmp_path_factory.mktemp("run") / "run"
    train(plan, Data(train=data, validation=data), out)
    (out / "data.jsonl").write_text(
        "\n".join(json.dumps({"file_name": str(sample.path), "captions": sample.captions}) for sample in data),
        encoding="utf-8",
    )
    return out


@pytest.fixture
def checkpoint(run: Path) -> Checkpoint:
    return load(run)


def test_a_token_is_a_character_and_what_is_encoded_comes_back(checkpoint: Checkpoint) -> None:
    tokenizer = checkpoint.tokenizer
    assert tokenizer.config.words == "characters"
    for text in ("一个小红色圆形在灰色背景上", "青色背景，上面是一个大白色五角星", "mixed 混合 text 123"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("一个红色圆形")) <= 2 * 6  # one each where they are frequent, never a phrase in one
    assert len(tokenizer.encode("一个")) >= 2
    assert tokenizer.decode(tokenizer.encode("一个圆形。")) == "一个圆形"


def test_it_learns_and_is_scored_by_characters(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--data", str(run / "data.jsonl"), "--outside", "--split", "train", "--model", str(run)]
    assert main([*command, "--split", "all", "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "no spaces" not in err
    found = json.loads(out)
    assert found["words"] == "characters"
    assert found["model"]["bleu4"] > 90
    assert found["model"]["cider_d"] > 500
    assert found["missing"] == {"meteor": "knows English words only"}
    assert found["diversity"]["length"] > 8  # characters, not clauses
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    checks = [record for record in log if record["kind"] == "validation"]
    assert checks[-1]["cider_d"] == pytest.approx(found["model"]["cider_d"], abs=1e-6)


def test_words_have_probabilities_one_by_one(checkpoint: Checkpoint, run: Path) -> None:
    record = json.loads((run / "data.jsonl").read_text(encoding="utf-8").splitlines()[0])
    pipe = CaptionPipeline(checkpoint)
    caption = pipe.caption(record["file_name"])
    assert caption.text == record["captions"][0]
    assert [word.text for word in caption.words if characters(word.text)] == characters(caption.text)
    pieces = list(pipe.stream_words(record["file_name"]))
    assert "".join(pieces) == caption.text
    assert len(pieces) > 5
