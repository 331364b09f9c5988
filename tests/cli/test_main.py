"""Exit codes and error sentences for mistyped commands."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from captioner.cli import VERBS, main
from captioner.errors import CaptionerError
from captioner.version import __version__


@pytest.fixture
def here(toy: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with ``toy`` data, a ``learnt`` captioner, a ``photo.png`` and nothing else."""
    (tmp_path / "toy").symlink_to(toy)
    (tmp_path / "learnt").symlink_to(learnt)
    (tmp_path / "photo.png").symlink_to(toy / "images" / "00000.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("caption photo.png --model nope", "nope is not a checkpoint directory; name a directory that"),
        ("caption photo.png --model toy", "config.json cannot be read"),
        ("caption photo.png --model learnt --device gpu9", "the device 'gpu9' cannot be used ("),
        ("evaluate --data nope --model learnt", "nope does not exist; name a folder of images"),
        ("evaluate --data toy --split nope --model learnt", "the data has no split 'nope'; choose one of: train, dev"),
        ("evaluate --data toy --model learnt --device cuda:99", "the device 'cuda:99' cannot be used ("),
        ("train --data nope", "nope does not exist; name a folder of images"),
        ("train --data toy --recipe nope", "there is no recipe nope; choose one of"),
        ("train --data toy --set stages.0.lrr=3", "unknown setting stages[0].lrr; did you mean stages[0].lr?"),
        ("train --data toy --text nope.txt", "the text file nope.txt cannot be read"),
        ("train --data toy --held-out nope.txt", "nope.txt does not exist; check the path"),
        ("train --data toy --resume", "there is no run to resume in runs/default; start it without --resume"),
        ("train --data toy --recipe toy --out learnt", "learnt already holds a run; repeat the command with"),
        ("train --data toy --recipe toy --out photo.png/x", "cannot write to photo.png/x"),
        ("train --data toy --recipe toy --set vision.backbone=nope", "vision.backbone 'nope' is not a model of timm"),
        ("train --data toy --recipe toy --set vision_weights=nope.pth", "there is no weight file nope.pth"),
        ("finetune --data toy --model nope", "nope is not a checkpoint directory"),
        ("finetune --data toy --model learnt --set decoder.width=64", "fine-tuning keeps the model"),
        ("convert nope out", "nope"),
        (f"caption photo.png --seed {'9' * 70}", "the seed has too many digits; choose a whole number of at most 18"),
        (f"caption photo.png --count {'9' * 70}", "generation.beams must be at most 10000; lower it"),
        (f"evaluate --data toy --beams {'9' * 70}", "generation.beams must be at most 10000; lower it"),
        ("caption photo.png --prefix 'caf\udce9'", "holds bytes that are not UTF-8"),
        ("explain photo.png --model learnt --caption 'caf\udce9'", "holds bytes that are not UTF-8"),
    ],
)
def test_a_mistake_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    before = sorted(here.iterdir())
    assert main(shlex.split(command)) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "training images, " not in line]
    assert (out, len(lines)) == ("", 1), err
    assert lines[0].startswith("captioner: ")
    assert said in lines[0]
    assert sorted(here.iterdir()) == before, "a mistake left something behind"


def test_debug_shows_where(here: Path) -> None:
    with pytest.raises(CaptionerError, match="nope does not exist"):
        main(["evaluate", "--data", "nope", "--debug"])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("caption x --beams 0", "argument --beams: 0 is not a whole number of at least 1"),
        ("caption x --refine=-1", "argument --refine: -1 is not a whole number of at least 0"),
        (f"caption x --frames {'9' * 70}", "is more than 1000000 frames; ask for fewer"),
        ("caption x --seed 1e3", "argument --seed: 1e3 is not a whole number"),
        (f"caption x --seed {'9' * 5000}", f"argument --seed: {'9' * 40}... is not a whole number"),
        ("caption x --batch-size many", "argument --batch-size: many is not a whole number of at least 1"),
        ("evaluate", "the following arguments are required: --data"),
        ("caption", "the following arguments are required: PATH"),
        ("evaluate --data x --aspect wide", "argument --aspect: invalid choice: 'wide'"),
    ],
)
def test_options_that_cannot_be_used(capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(command))
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trian --data toy", "'trian' is neither a command nor a file; did you mean `captioner train`?"),
        ("Evaluate --data toy", "did you mean `captioner evaluate`?"),
        ("serach dog photos", "did you mean `captioner search`?"),
    ],
)
def test_a_mistyped_verb(here: Path, capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    assert main(shlex.split(command)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_folder_may_be_called_nearly_like_a_verb(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "trian").symlink_to(here / "toy" / "images")
    assert main(["trian", "--model", "nope"]) == 1
    assert "nope is not a checkpoint directory" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"captioner {__version__}\n"
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)
    for verb in VERBS:
        with pytest.raises(SystemExit) as stopped:
            main([verb, "--help"])
        assert stopped.value.code == 0
        assert "--debug" in capsys.readouterr().out


def test_arguments_come_from_the_shell_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["captioner", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert __version__ in capsys.readouterr().out


def test_what_a_checkpoint_asks_for_is_switched_off(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = shutil.copytree(here / "learnt" / "best", here / "own")
    changes = {"refine": 2, "min_tokens": 20, "rules": {"no_repeat_ngram": 1}, "sampling": {"temperature": 50.0}}
    (own / "generation.json").write_text(json.dumps(changes))
    command = ["caption", "photo.png", "--device", "cpu", "--model"]
    assert main([*command, "learnt"]) == 0
    plain = capsys.readouterr().out
    off = shlex.split("--refine 0 --min-tokens 0 --no-repeat-ngram 0 --temperature 0")
    assert main([*command, "own", *off]) == 0
    assert capsys.readouterr().out == plain
    assert main([*command, "own"]) == 0
    assert capsys.readouterr().out != plain
