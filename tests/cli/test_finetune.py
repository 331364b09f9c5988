"""The finetune command: train an adapter, use it, merge it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from captioner.checkpoint import load
from captioner.cli import main
from captioner.errors import DataError

QUICK = ["precision=fp32", "workers=0", "stages.0.epochs=1", "stages.0.batch_size=8", "validation_images=2"]


def finetune(toy: Path, base: Path, out: Path, *settings: str) -> list[str]:
    given = [part for setting in (*QUICK, *settings) for part in ("--set", setting)]
    return ["finetune", "--data", str(toy), "--model", str(base), "--out", str(out), *given]


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_an_adapter_is_used_like_any_model_and_merged(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    mine = tmp_path / "mine"
    assert main(finetune(toy, learnt, mine, f"adapter.method={method}")) == 0
    out, err = capsys.readouterr()
    assert out == f"{mine / 'best'}\n"
    assert f"{method}: " in err
    assert "M parameters are trained, all others are frozen" in err

    photos = sorted(str(path) for path in (toy / "images").iterdir())[:4]
    assert main(["convert", str(mine), str(tmp_path / "whole"), "--merge"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'whole'}\n"
    said = []
    for model in (mine, tmp_path / "whole"):
        assert main(["caption", *photos, "--model", str(model), "--device", "cpu"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 4
    assert main(["evaluate", "--data", str(toy), "--model", str(mine), "--device", "cpu", "--no-java", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert load(tmp_path / "whole").base is None


def test_before_and_after_are_told_and_only_the_path_is_printed(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    assert main(finetune(toy, learnt, mine, "stages.0.lr=5e-3", "stages.0.vision=all")) == 0
    out, err = capsys.readouterr()
    assert out == f"{mine / 'best'}\n"
    assert err.count("warning: only 2 images are held out, and scores on fewer than 30 are unreliable") == 2
    images = json.loads((mine / "best" / "training.json").read_text())["images"]
    assert (
        f"a set of {images} images: epochs 1, batch_size 8, lr 0.005, patience 6 (from the recipe's table of sizes; "
        in err
    )
    report = (mine / "report.md").read_text()
    assert report in err
    assert report.count("    reference  ") == report.count("    after      ") == 2
    rows = {line.split(" | ")[0]: line for line in report.splitlines() if line.startswith("| ")}
    assert rows.keys() == {"| 2 held-out images", "| before", "| after"}
    assert rows["| before"] != rows["| after"].replace("after", "before")


def test_a_model_that_is_gone_costs_the_report_alone(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.training.report.evaluate", lambda *_, **__: (_ for _ in ()).throw(DataError("why")))
    assert main(finetune(toy, learnt, tmp_path / "mine")) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'mine' / 'best'}\n"
    assert err.splitlines()[-1] == "no report: why"


def test_the_shipped_recipe_trains_lora(toy: Path, learnt: Path, tmp_path: Path) -> None:
    assert main([*finetune(toy, learnt, tmp_path / "mine"), "--recipe", "lora"]) == 0
    found = json.loads((tmp_path / "mine" / "best" / "adapter" / "adapter_config.json").read_text())
    assert (found["peft_type"], found["r"], found["lora_alpha"]) == ("LORA", 8, 16)


def test_what_cannot_be_is_one_sentence(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(learnt / "best", tmp_path / "base")
    assert main(["convert", str(base), str(tmp_path / "x"), "--merge"]) == 1
    said = f"captioner: {base} is not an adapter; leave out --merge\n"
    assert capsys.readouterr().err == said
    assert main(finetune(toy, base, tmp_path / "mine", "adapter.rank=2")) == 1
    assert capsys.readouterr().err == "captioner: setting adapter.method is missing\n"
    assert main(["train", "--data", str(toy), "--recipe", "lora", "--out", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "captioner: an adapter needs a captioner to train on; use `captioner finetune --model M`"
    )
    settings = ("adapter.method=lora", 'adapter.targets=["attention"]')
    assert main(finetune(toy, base, tmp_path / "mine", *settings)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "captioner: adapter.targets: 'attention' is no linear layer of the decoder; choose among fc1, fc2, gate, "
        "kv_proj, out_proj, point, q_proj, qkv_proj, spread"
    )
    assert not (tmp_path / "mine").exists()
