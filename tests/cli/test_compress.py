"""`captioner compress` writes a smaller checkpoint that loads as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.checkpoint import load
from captioner.cli import main as captioner


def size(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def test_weights_and_words(learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "captions.txt"
    text.write_text("a red circle\na blue square\n")
    out = tmp_path / "small"
    assert captioner(["compress", str(learnt), str(out), "--weights", "int4", "--vocab-from", str(text)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    small = load(out)
    assert f"{small.config.decoder.vocab_size} tokens stay" in said.err
    assert size(out) < 0.5 * size(learnt / "best")
    assert small.tokenizer.decode(small.tokenizer.encode("a red circle")) == "a red circle"
    assert json.loads((out / "training.json").read_text())["compressed"]["weights"] == "int4"
    assert "## How it was made smaller" in (out / "README.md").read_text()
    assert captioner(["compress", str(out), str(tmp_path / "again")]) == 0, "a small one can be packed again"
    assert (tmp_path / "again" / "README.md").read_text().count("## How it was made smaller") == 1


@pytest.mark.parametrize("note", ["odd", {"pruned": {"heads": "six"}, "vocabulary": [1]}, [1], None])
def test_odd_notes_of_an_earlier_compression_are_left_out(note: object, learnt: Path, tmp_path: Path) -> None:
    """A checkpoint of others may hold anything in training.json."""
    assert captioner(["compress", str(learnt), str(tmp_path / "first")]) == 0
    values = json.loads((tmp_path / "first" / "training.json").read_text())
    (tmp_path / "first" / "training.json").write_text(json.dumps({**values, "compressed": note}))
    assert captioner(["compress", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    assert "stored its weights in int8" in (tmp_path / "second" / "README.md").read_text()


def test_words_of_a_dataset(learnt: Path, toy: Path, tmp_path: Path) -> None:
    assert captioner(["compress", str(learnt), str(tmp_path / "small"), "--vocab-from", str(toy)]) == 0
    whole, small = load(learnt), load(tmp_path / "small")
    assert small.config.decoder.vocab_size <= whole.config.decoder.vocab_size


def test_prune(learnt: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compress", str(learnt), str(tmp_path / "small"), "--prune", "0.7", "--data", str(toy), "--epochs", "0"]
    assert captioner(command) == 0
    assert "scoring heads and hidden units on" in capsys.readouterr().err
    whole, small = load(learnt), load(tmp_path / "small")
    count = [sum(p.numel() for p in c.model.decoder.blocks.parameters()) for c in (whole, small)]
    assert count[1] < 0.8 * count[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vocab-least", "3"], "add --vocab-from CAPTIONS"),
        (["--prune", "0.5"], "give both --prune SHARE and --data DATA"),
        (["--data", "photos"], "give both --prune SHARE and --data DATA"),
        (["--prune", "1.5", "--data", "photos"], "above 0 and below 1"),
        (["--vocab-from", "missing.txt"], "missing.txt cannot be read"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], message: str, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captioner(["compress", str(learnt), str(tmp_path / "out"), *options]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_replaced(learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert captioner(["compress", str(learnt), str(tmp_path / "mine")]) == 1
    assert "holds files other than a captioner checkpoint" in capsys.readouterr().err
    assert (tmp_path / "mine" / "letter.txt").exists()
