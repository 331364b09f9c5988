"""The files of a Hugging Face checkpoint: their possible places, and errors for damaged ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from captioner.checkpoint.hugging_face import gpt2_tokenizer
from captioner.checkpoint.hugging_face.files import locate, read_tokenizer, read_weights
from captioner.config import TextConfig
from captioner.errors import CheckpointError
from captioner.text import train_tokenizer

TEXT = TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=False)
STATE = {"a": torch.arange(6.0), "b": torch.ones(2, 3)}


def write_shards(directory: Path, name: str) -> None:
    stem, suffix = name.split(".")
    shards = {f"{stem}-{i}-of-2.{suffix}": {key: value} for i, (key, value) in enumerate(STATE.items())}
    for shard, part in shards.items():
        (save_file if suffix == "safetensors" else torch.save)(part, directory / shard)
    weight_map = {key: shard for shard, part in shards.items() for key in part}
    (directory / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_in_each_form(name: str, sharded: bool, tmp_path: Path) -> None:
    if sharded:
        write_shards(tmp_path, name)
    else:
        (save_file if name.endswith("safetensors") else torch.save)(STATE, tmp_path / name)
    found = read_weights(tmp_path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"not tensors"),
        ("pytorch_model.bin", b"PK\x03\x04 not a zip"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-1.safetensors"}}'),
        ("model.safetensors.index.json", b"{"),
    ],
)
def test_damaged_weights_are_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="download") as caught:
        read_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"a": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_weights(tmp_path)
    assert not (tmp_path / "run").exists()


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_weights(tmp_path)


def test_the_hub_gives_safetensors_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns[-1]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert locate("org/name") == tmp_path
    assert asked == [("org/name", "model*.safetensors"), ("org/name", "pytorch_model*.bin")]
    asked.clear()
    (tmp_path / "model.safetensors").touch()
    assert locate("gpt2") == tmp_path
    assert asked == [("gpt2", "model*.safetensors")]


def test_a_hub_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("offline\nwith a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"org/name is not a directory and .*\(offline\)"):
        locate("org/name")
    for name in ("./missing", "/missing/it", "a/b/c"):
        with pytest.raises(CheckpointError, match="is not a directory"):
            locate(name)


CAPTIONS = ["a dog on a beach", "two dogs run", "Ein Hund läuft 🐕", "une fille à la plage"]


@pytest.fixture
def gpt2_files(tmp_path: Path) -> Path:
    """Write vocab.json and merges.txt in GPT-2's format, from a tokenizer trained here."""
    trained = json.loads(train_tokenizer(CAPTIONS * 9, 320, lowercase=False).to_json())["model"]
    vocab = {("<|endoftext|>" if token == "<pad>" else token): i for token, i in trained["vocab"].items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in trained["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}])
def test_vocab_and_merges_are_gpt2s_tokenizer(gpt2_files: Path, settings: dict[str, Any]) -> None:
    from transformers import GPT2TokenizerFast

    (gpt2_files / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = GPT2TokenizerFast.from_pretrained(gpt2_files, **settings)
    ours = read_tokenizer(gpt2_files, TEXT)
    said = "x <|endoftext|> y"  # theirs would end the caption there
    assert ours.decode(ours.encode(said)) == said
    for caption in [*CAPTIONS, "unseen words 漢字"]:
        ids = theirs(caption)["input_ids"]
        assert ours.encode(caption) == ids
        assert ours.decode(ids) == theirs.decode(ids).strip() == caption


def test_added_tokens_follow_the_vocabulary(gpt2_files: Path) -> None:
    vocab = json.loads((gpt2_files / "vocab.json").read_text())
    (gpt2_files / "added_tokens.json").write_text(json.dumps({"[B]": len(vocab) + 1, "[A]": len(vocab)}))
    tokenizer = read_tokenizer(gpt2_files, TEXT)
    assert tokenizer.vocab_size == len(vocab) + 2
    assert tokenizer.encode("[A][B]") == [len(vocab), len(vocab) + 1]


def test_tokenizer_json_comes_first_and_never_pads(gpt2_files: Path) -> None:
    trained = train_tokenizer(["only this"], 270, lowercase=False)
    trained.model.enable_padding(length=50)
    trained.model.enable_truncation(2)
    (gpt2_files / "tokenizer.json").write_text(trained.to_json(), encoding="utf-8")
    found = read_tokenizer(gpt2_files, TEXT)
    assert found.vocab_size == trained.vocab_size
    ids = found.encode("only this, and much more")
    assert 2 < len(ids) < 50
    assert found.decode(ids) == "only this, and much more"


def test_gpt2s_one_special_token_starts_and_ends(gpt2_files: Path, tmp_path: Path) -> None:
    tokenizer = gpt2_tokenizer(gpt2_files, lowercase=True)
    end = tokenizer.model.token_to_id("<|endoftext|>")
    assert tokenizer.config == TextConfig(bos_id=end, eos_id=end, pad_id=end, lowercase=True)
    assert tokenizer.decode([end, *tokenizer.encode("Two dogs"), end]) == "two dogs"
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(CAPTIONS, 260).to_json(), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has no <\|endoftext\|>"):
        gpt2_tokenizer(tmp_path, lowercase=True)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="save the model's tokenizer"):
        read_tokenizer(tmp_path, TEXT)


def test_merges_of_another_vocabulary(gpt2_files: Path) -> None:
    (gpt2_files / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(CheckpointError, match="do not fit together"):
        read_tokenizer(gpt2_files, TEXT)
