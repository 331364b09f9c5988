"""The round trip to a local hub and back, through huggingface_hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import captioner
from captioner.checkpoint import Checkpoint, base_of, load, merged, save
from captioner.checkpoint.locate import find
from captioner.cli import main
from captioner.config import AdapterConfig
from captioner.errors import CheckpointError, UsageError
from captioner.hub import push_to_hub
from captioner.models import adapters
from captioner.training.tasks import Data

FILES = {".gitattributes", "README.md", "config.json", "generation.json", "model.safetensors", "tokenizer.json"}


def test_there_and_back(hub: Any, learnt: Path, data: Data) -> None:
    page = captioner.push_to_hub(learnt, "someone/shapes", license="apache-2.0", private=True)
    assert page == f"{hub.url}/someone/shapes"
    assert hub.created["someone/shapes"].get("visibility", hub.created["someone/shapes"].get("private")) in (
        "private",
        True,
    )
    assert set(hub.files("someone/shapes")) == FILES | {"training.json"}
    pipe = captioner.load("someone/shapes", device="cpu")
    photo = data.train[0].path
    assert pipe.caption(photo) == captioner.load(learnt, device="cpu").caption(photo)


def test_the_card_says_how_to_load_it(hub: Any, learnt: Path) -> None:
    push_to_hub(learnt, "someone/shapes", license="mit", message="First")
    card = hub.files("someone/shapes")["README.md"].decode()
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert head.splitlines()[:3] == ["library_name: captioner", "pipeline_tag: image-to-text", "license: mit"]
    assert 'captioner.load("someone/shapes")' in body
    assert "| encoder |" in body
    assert hub.messages == ["First"]
    again = find("someone/shapes")
    push_to_hub(again, "someone/shapes")
    assert hub.files("someone/shapes")["README.md"].decode() == card, "a card with front matter keeps it"
    push_to_hub(again, "someone/shapes", license="apache-2.0")
    assert hub.files("someone/shapes")["README.md"].decode() == card.replace("license: mit", "license: apache-2.0")
    with pytest.raises(UsageError, match="is not a licence identifier of the hub"):
        push_to_hub(again, "someone/new", license="mine: all")
    assert "someone/new" not in hub.created


def test_what_is_in_the_cache_is_not_fetched_again(hub: Any, learnt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(learnt, "someone/shapes")
    first = find("someone/shapes")
    hub.asked.clear()
    assert find("someone/shapes") == first
    assert not [line for line in hub.asked if "/resolve/" in line], "its list of files is looked at, no file"
    hub.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert load("someone/shapes").config == load(learnt).config
    assert not hub.asked
    with pytest.raises(CheckpointError, match=r"other is not a directory .*; download it once with HF_HUB_OFFLINE=0$"):
        load("someone/other")


def test_a_branch_of_its_own(hub: Any, learnt: Path, checkpoint: Checkpoint) -> None:
    push_to_hub(learnt, "someone/shapes")
    longer = replace(checkpoint, generation=replace(checkpoint.generation, beams=3))
    push_to_hub(longer, "someone/shapes", revision="beams")
    assert captioner.load("someone/shapes", device="cpu").checkpoint.generation.beams == 1
    assert captioner.load("someone/shapes", revision="beams", device="cpu").checkpoint.generation.beams == 3
    found = load("someone/shapes@beams")
    assert found.generation.beams == 3
    assert found.source == "someone/shapes@beams"
    with pytest.raises(CheckpointError, match=r"someone/shapes@none .* \(.*Revision"):
        load("someone/shapes@none")


def test_a_pipeline_pushes_what_it_was_loaded_from(hub: Any, learnt: Path) -> None:
    pipe = captioner.load(learnt, device="cpu", precision="int8")
    pipe.checkpoint.generation = replace(pipe.checkpoint.generation, beams=2)
    pipe.push_to_hub("someone/shapes")
    assert hub.files("someone/shapes")["model.safetensors"] == (learnt / "best" / "model.safetensors").read_bytes()
    assert json.loads(hub.files("someone/shapes")["generation.json"])["beams"] == 2
    pipe.checkpoint.source = ""
    with pytest.raises(
        CheckpointError, match="has lost its original weights, and no checkpoint holds them; prepare it with keep=True"
    ):
        pipe.push_to_hub("someone/shapes")


def test_an_adapter_needs_a_base_that_others_find(hub: Any, learnt: Path, tmp_path: Path) -> None:
    def adapted(source: str) -> Path:
        start = load(source)
        base = base_of(start)
        adapters.insert(start.model, AdapterConfig(method="prefix", length=2))
        return save(replace(start, base=base, card=""), tmp_path / "adapter")

    with pytest.raises(
        CheckpointError, match=r"its base /.* is a directory that others do not have; push the base first"
    ):
        push_to_hub(adapted(str(learnt)), "someone/little")
    assert "someone/little" not in hub.branches
    push_to_hub(learnt, "someone/shapes")
    small = adapted("someone/shapes")
    push_to_hub(small, "someone/little")
    assert {"adapter/prefix.safetensors", "config.json"} < set(hub.files("someone/little"))
    assert "base_model: someone/shapes\n" in hub.files("someone/little")["README.md"].decode()
    assert load("someone/little").base == load(small).base
    push_to_hub(merged(load("someone/little")), "someone/little")
    assert "adapter/prefix.safetensors" not in hub.files("someone/little"), "what is no part of it any more goes"
    assert load("someone/little").base is None


def test_what_cannot_be_pushed_is_one_sentence(
    hub: Any, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint directory"):
        push_to_hub(tmp_path / "none", "someone/shapes")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        push_to_hub(tmp_path, "someone/shapes")
    for name in ("someone/sha pes", "a/b/c"):
        with pytest.raises(CheckpointError, match=rf"^cannot push to {name} \([^\n]+\); log in with `hf auth login`"):
            push_to_hub(learnt, name)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["push", str(learnt), "someone/shapes"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("captioner: cannot push to someone/shapes (")
    assert error.count("\n") == 1


def test_from_the_command_line(hub: Any, learnt: Path, capsys: pytest.CaptureFixture[str], data: Data) -> None:
    assert main(["push", str(learnt), "someone/shapes", "--license", "mit", "--revision", "v1"]) == 0
    assert capsys.readouterr().out == f"{hub.url}/someone/shapes\n"
    photo = str(data.train[0].path)
    assert main(["caption", photo, "--model", "someone/shapes@v1", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{photo}\t{captioner.load(learnt).caption(photo)}\n"
