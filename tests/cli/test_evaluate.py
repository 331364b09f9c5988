"""The evaluate and compare commands: a model, a file of captions, two of either."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from captioner.cli import main


@pytest.fixture
def said(toy: Path, tmp_path: Path) -> Path:
    """Write the first reference of each of the two dev pictures as predictions."""
    rows = [json.loads(line) for line in (toy / "dev.jsonl").read_text().splitlines()]
    path = tmp_path / "said.jsonl"
    path.write_text("\n".join(json.dumps({"path": r["file_name"], "caption": r["captions"][0]}) for r in rows))
    return path


def test_predictions_are_judged_without_a_model(
    toy: Path, said: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--data", str(toy), "--predictions", str(said), "--no-java"]
    assert main([*command, "--json", "--per-image", str(tmp_path / "each.jsonl")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["bleu4"] == pytest.approx(100)
    assert found["model_intervals"]["bleu4"] == pytest.approx([100, 100])
    assert found["missing"] == {"meteor": "not asked for"}
    assert found["diversity"]["novel"] == 100
    assert "perplexity" not in found
    each = [json.loads(line) for line in (tmp_path / "each.jsonl").read_text().splitlines()]
    assert [record["bleu4"] for record in each] == pytest.approx([100, 100])
    assert each[0]["caption"] == each[0]["references"][0]
    assert main(command) == 0
    assert f"| {said} on dev | 100.00 [100.0, 100.0] |" in capsys.readouterr().out


def test_files_go_into_new_folders_and_cost_no_scores(
    toy: Path, said: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--data", str(toy), "--predictions", str(said), "--no-java"]
    each, report = tmp_path / "new" / "each.jsonl", tmp_path / "newer" / "deep" / "report.html"
    assert main([*command, "--per-image", str(each), "--report", str(report)]) == 0
    assert len(each.read_text().splitlines()) == 2
    assert report.read_text().startswith("<!doctype html>")
    scores = capsys.readouterr().out
    for name in ("--per-image", "--report"):
        assert main([*command, name, str(tmp_path)]) == 1  # a folder of that name
        out, err = capsys.readouterr()
        assert out == scores
        assert "Is a directory" in err
    assert main([*command, "--report", str(said / "x.html")]) == 1  # no folder can be made there
    assert capsys.readouterr().out == ""


def test_predictions_that_do_not_fit_are_refused(toy: Path, said: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = said.read_text().splitlines()
    said.write_text("\n".join([first, first]))
    command = ["evaluate", "--data", str(toy), "--no-java", "--predictions", str(said)]
    assert main(command) == 1
    names = [json.loads(line)["path"] for line in (first, second)]
    assert capsys.readouterr().err == (
        "captioner: the predictions cannot be evaluated: "
        f"1 image has no prediction: {names[1]}; 1 image has more than one prediction: {names[0]}\n"
    )
    assert main([*command, "--beams", "3"]) == 1
    assert "--predictions needs no model" in capsys.readouterr().err


def test_a_leak_is_refused_or_left_out(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaky = tmp_path / "leaky"
    shutil.copytree(toy, leaky)
    first = json.loads((leaky / "train.jsonl").read_text().splitlines()[0])
    shutil.copy(leaky / first["file_name"], leaky / "images" / "copy.png")
    with (leaky / "dev.jsonl").open("a") as file:
        file.write(json.dumps({**first, "file_name": "images/copy.png"}) + "\n")
    rows = [json.loads(line) for line in (leaky / "dev.jsonl").read_text().splitlines()]
    path = tmp_path / "said.csv"
    path.write_text("image,caption\n" + "\n".join(f'{r["file_name"]},"{r["captions"][1]}"' for r in rows[:2]))
    command = ["evaluate", "--data", str(leaky), "--no-java", "--predictions", str(path)]
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "captioner: leakage: 1 of the 3 images of dev is also a training image, which inflates the scores: "
        "images/copy.png; remove them from one of the splits, or use --drop-leaks\n"
    )
    assert main([*command, "--drop-leaks"]) == 0
    assert "1 image was left out because it is also a training image" in capsys.readouterr().out


def test_a_model_is_not_judged_on_what_it_was_trained_on(
    toy: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = json.loads((learnt / "best" / "training.json").read_text())["data"]
    from captioner.data.sources import read_splits
    from captioner.evaluation.judge import fingerprint

    images = read_splits(toy).split("train")
    rows = [json.dumps({"file_name": str(s.path), "captions": list(s.captions[:1])}) for s in images]
    for count in range(1, len(rows) + 1):  # the eight that the fixture took
        (tmp_path / "test.jsonl").write_text("\n".join(rows[:count]))
        if fingerprint(read_splits(tmp_path, outside=True).split("test")) == trained:
            break
    model = shutil.copytree(learnt / "best", tmp_path / "model")
    values = json.loads((model / "training.json").read_text())
    values["data"] = fingerprint(read_splits(tmp_path, outside=True).split("test"))
    (model / "training.json").write_text(json.dumps(values))
    command = ["evaluate", "--data", str(tmp_path / "test.jsonl"), "--split", "test", "--model", str(model)]
    assert main([*command, "--no-java", "--device", "cpu"]) == 1
    assert "which is outside" in capsys.readouterr().err
    assert main([*command, "--no-java", "--device", "cpu", "--outside"]) == 1
    assert "the model was trained on these images" in capsys.readouterr().err


def test_two_are_compared(toy: Path, said: Path, learnt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(learnt), str(said), "--data", str(toy), "--no-java", "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 2
    assert found["second"]["bleu4"] == pytest.approx(100)
    assert found["differences"]["bleu4"]["value"] == pytest.approx(100 - found["first"]["bleu4"])
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"| | {learnt} | {said} | difference | 95 % interval | p |")
    assert f"{said} gains most" in out or found["ties"] == 2


def test_captions_without_blanks_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    rows = [{"file_name": "1.jpg", "text": "一只黑狗在跑"}, {"file_name": "2.jpg", "text": "两个孩子"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "said.csv").write_text("image,caption\n1.jpg,一只狗在跑\n2.jpg,两个孩子\n", encoding="utf-8")
    command = ["evaluate", "--data", str(tmp_path / "test.jsonl"), "--split", "test", "--no-java", "--json"]
    command += ["--predictions", str(tmp_path / "said.csv")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "evaluate them with --words characters" in err
    assert json.loads(out)["model"]["bleu1"] == pytest.approx(50)
    assert main([*command, "--words", "characters"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["model"]["bleu1"] > 80
    assert json.loads(out)["words"] == "characters"


def test_the_probe_prints_tables_in_place_of_scores(
    toy: Path, learnt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--data", str(toy), "--model", str(learnt), "--device", "cpu", "--probe"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "| mirrored | " in out
    assert "BLEU" not in out
    assert main([*command, "--json", "--beams", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 2
    assert [one["view"] for one in found["steadiness"]] == ["mirrored", "half as bright", "a tenth cut off each side"]
    assert main([*command, "--report", "x.html"]) == 1
    assert "leave out --predictions, --per-image and --report" in capsys.readouterr().err


def test_a_part_of_the_images_is_judged_where_that_is_asked_for(
    toy: Path, said: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(json.loads, said.read_text().splitlines())
    failed = {"path": second["path"], "error": "cannot read it"}
    said.write_text(json.dumps({"image": first["path"], "prompt": "Say.", "generated_text": first["caption"]}))
    command = ["evaluate", "--data", str(toy), "--no-java", "--predictions", str(said)]
    assert main(command) == 1
    assert "--partial evaluates the images that have one" in capsys.readouterr().err
    said.write_text(json.dumps(first) + "\n" + json.dumps(failed))
    assert main([*command, "--partial", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["bleu4"] == pytest.approx(100)
    assert found["notes"][0] == "only a part of the images was evaluated: 1 of the 2 images has a prediction"
    said.write_text(json.dumps(failed))
    assert main([*command, "--partial"]) == 1
    assert main([*command[:-2], "--partial"]) == 2 or "add --predictions FILE" in capsys.readouterr().err


def test_missing_extras_are_said_before_data_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("jieba", "peft", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    gone = str(tmp_path / "gone")
    (tmp_path / "x.parquet").touch()
    for command, told in (
        (["evaluate", "--data", gone, "--words", "jieba"], "captioner[chinese]"),
        (["finetune", "--data", gone, "--recipe", "lora", "--out", str(tmp_path / "run")], "captioner[finetune]"),
        (["inspect", gone, str(tmp_path / "x.parquet")], "captioner[parquet]"),
    ):
        assert main(command) == 1
        assert told in capsys.readouterr().err
