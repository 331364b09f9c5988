"""A checkpoint of Hugging Face is converted when it is first used, and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captioner.checkpoint import load
from captioner.checkpoint.locate import find
from captioner.cli import main
from captioner.errors import CheckpointError

from .conftest import same_logits

Make = Callable[..., tuple[Any, Path]]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of converted checkpoints, beside the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path / "home" / "captioner"


def test_it_says_so_once(vit_gpt2: Make, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, directory = vit_gpt2(0, decoder={"vocab_size": 270})
    capsys.readouterr()
    first = load(directory)
    said = capsys.readouterr().err
    assert said == f"converting {directory.resolve()}, once; the result is kept in {find(directory)}\n"
    assert find(directory).parent == kept
    again = load(directory)
    assert capsys.readouterr().err == ""
    pixels, tokens = torch.randn(2, 3, 16, 16), torch.randint(0, 12, (2, 1, 5))
    same_logits(first.model, model, pixels, tokens[:, 0])
    with torch.inference_mode():
        assert torch.equal(again.model(tokens, pixels).logits, first.model(tokens, pixels).logits)
    assert again.source == str(find(directory))  # a directory of this package: a base of adapters too


def test_a_changed_checkpoint_is_converted_again(vit_gpt2: Make, kept: Path) -> None:
    _, directory = vit_gpt2(1, decoder={"vocab_size": 270})
    before = find(directory)
    path = directory / "generation_config.json"
    path.write_text(path.read_text().replace("{", '{"num_beams": 3,', 1))
    assert find(directory) != before
    assert load(directory).generation.beams == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(vit_gpt2: Make, kept: Path) -> None:
    kept.parent.mkdir(parents=True)
    kept.parent.chmod(0o500)
    with pytest.raises(CheckpointError, match="set HF_HOME to another folder"):
        load(vit_gpt2(0, decoder={"vocab_size": 270})[1])


def test_a_file_in_the_way_is_named(vit_gpt2: Make, kept: Path) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text("not a folder")
    with pytest.raises(CheckpointError, match="set HF_HOME to another folder"):
        load(vit_gpt2(0, decoder={"vocab_size": 270})[1])


def test_every_command_takes_it(vit_gpt2: Make, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, directory = vit_gpt2(0, decoder={"vocab_size": 270})
    photo = tmp_path / "photo.png"
    Image.new("RGB", (20, 30)).save(photo)
    assert main(["caption", str(photo), "--model", str(directory)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{photo}\t")
    assert "once; the result is kept in" in err
