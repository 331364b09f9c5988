"""The train command from end to end in seconds: train, evaluate, fine-tune, interrupt and resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import load
from captioner.cli import main
from captioner.training import step

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
task = "language_model"
epochs = 1
batch_size = 8
[[stages]]
epochs = 2
batch_size = 8
lr = 2e-3
cache_features = true
"""
QUICK = [
    "--set",
    "precision=fp32",
    "--set",
    "workers=0",
    "--set",
    "stages.0.epochs=1",
    "--set",
    "stages.0.batch_size=8",
]


@pytest.fixture
def here(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy").symlink_to(toy)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "text.txt").write_text("".join(f"line {n} of a text\n" for n in range(20)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--data", "toy", "--text", "text.txt", "--recipe", "tiny.toml"]


def test_from_training_to_fine_tuning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN) == 0
    out, err = capsys.readouterr()
    assert out == "runs/tiny/best\n"
    assert "stage 2 of 2: cross_entropy, 2 epochs of 2 steps" in err
    made = {path.name for path in (here / "runs" / "tiny").iterdir()}
    assert made == {"best", "last", "features", "log.jsonl", "state.pt", "tensorboard"}

    assert main(["evaluate", "--data", "toy", "--model", "runs/tiny", "--device", "cpu", "--no-java", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["references"]) == (2, 6)
    assert found["perplexity"] > 1
    assert found["model"].keys() == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d"}

    finetune = ["finetune", "--data", "toy", "--model", "runs/tiny", *QUICK, "--out", "mine"]
    assert main(finetune) == 0
    assert capsys.readouterr().out == "mine/best\n"
    tuned, start = load(here / "mine"), load(here / "runs" / "tiny")
    assert tuned.config == start.config
    assert tuned.training["recipe"]["stages"][0]["augment"] is True
    assert tuned.tokenizer.to_json() == start.tokenizer.to_json()

    assert main(finetune) == 1
    assert capsys.readouterr().err.splitlines() == [
        "captioner: mine already holds a run; repeat the command with --resume, or choose another --out"
    ]
    assert main([*finetune, "--resume"]) == 0


def test_the_report_names_all_that_the_scores_depend_on(
    toy: Path, learnt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "evaluate",
        "--data",
        str(toy),
        "--model",
        str(learnt),
        "--device",
        "cpu",
        "--no-java",
        "--split",
        "train",
    ]
    assert main([*command, "--beams", "2", "--aspect", "crop"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "| | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | METEOR | ROUGE-L | CIDEr-D |"
    assert lines[2].startswith(f"| {learnt} on train | ")
    assert "| not asked for |" in lines[2]
    assert lines[3].startswith("| one caption for all images (floor) | ")
    assert lines[4].startswith("| captions of other images (control) | ")
    assert lines[5].startswith("| people, one against the others (2 references) | ")
    assert lines[6].startswith(f"| {learnt} on train, against the same 2 references | ")
    assert [line.count("|") for line in lines[:7]] == [9] * 7
    assert "perplexity per word" in lines[8]
    assert lines[9].startswith("perplexity: 12 of 60 references are longer than the model's context of 32 tokens")
    assert lines[10].startswith("captions: ")
    assert lines[12].startswith("20 images, 3.00 references each, data ")
    assert lines[13].startswith("decoding: beams 2, max tokens 32; weights ")
    assert lines[15] == "these are training images of this data, so the scores do not apply to unseen images"


def test_an_unreadable_image_does_not_stop_a_report(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").symlink_to(toy / "images")
    (tmp_path / "gone.png").touch()
    rows = [*(toy / "dev.jsonl").read_text().splitlines(), '{"file_name": "gone.png", "text": "x"}']
    (tmp_path / "dev.jsonl").write_text("\n".join(rows))
    command = ["evaluate", "--data", str(tmp_path), "--model", str(learnt), "--device", "cpu", "--no-java", "--json"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 2
    assert err.splitlines() == [f"captioner: cannot read {tmp_path / 'gone.png'}: it is empty"]
    assert json.loads(out)["unreadable"] == [f"cannot read {tmp_path / 'gone.png'}: it is empty"]


def test_ctrl_c_leaves_a_state_and_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = step.set_rate

    def interrupted(*args: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return rate(*args)

    with monkeypatch.context() as patched:
        patched.setattr(step, "set_rate", interrupted)
        assert main(TRAIN) == 130
    assert (
        capsys.readouterr().err.splitlines()[-1] == "captioner: stopped after step 1; repeat the command with --resume"
    )
    assert torch.load(here / "runs/tiny/state.pt", weights_only=True)["position"]["total_step"] == 1
    assert main([*TRAIN, "--resume"]) == 0


def test_a_full_disk_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert main(TRAIN) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "captioner: cannot save the state of the run in runs/tiny: [Errno 28] No space left on device; free some space "
        "and repeat the command with --resume (the previous state is unchanged)"
    )


def test_a_broken_image_in_the_data_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = [json.dumps({"file_name": "bad.png", "text": "a dog"})]
    rows += [json.dumps({"file_name": f"toy/images/{n:05d}.png", "text": "a shape"}) for n in range(20)]
    (here / "metadata.jsonl").write_text("\n".join(rows))
    command = ["train", "--data", "metadata.jsonl", "--text", "text.txt", "--recipe", "tiny.toml"]
    assert main([*command, "--set", "workers=2"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("captioner: cannot read bad.png: ")
    assert last.endswith("; repair it or remove it from the training data")
