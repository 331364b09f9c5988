"""A checkpoint directory holds the whole captioner; it loads unchanged, or with one sentence about the error."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from captioner.checkpoint import Checkpoint, load, locate, save
from captioner.checkpoint.locate import find
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.errors import CheckpointError
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer, train_tokenizer

FILES = {"config.json", "model.safetensors", "tokenizer.json", "generation.json", "training.json", "README.md"}
TOKENIZER = train_tokenizer(["a dog on a beach", "zwei Hunde 🐕"], 262)


def make(seed: int = 0, *, backbone: str = "test_efficientnet") -> Checkpoint:
    torch.manual_seed(seed)
    config = CaptionerConfig(
        vision=VisionConfig(backbone=backbone),
        decoder=DecoderConfig(vocab_size=TOKENIZER.vocab_size, width=16, layers=2, heads=2, cross_pattern="M"),
        text=TOKENIZER.config,
        preprocess=PreprocessConfig(size=32),
    )
    model = Captioner(config).eval()
    return Checkpoint(model, TOKENIZER, GenerationConfig(beams=3, length_penalty=0.5), {"note": "Übung"}, "# A card\n")


@torch.inference_mode()
def logits(checkpoint: Checkpoint) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 32, 32, generator=generator)
    return checkpoint.model(torch.tensor([[[1, 5, 9]], [[1, 7, 2]]]), pixels).logits


def sentence(action: Callable[[], Any], match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_heads_nothing_is_said_of_them(saved: Path) -> None:
    """An older version of this package can load the checkpoint, and this one an older checkpoint."""
    assert "heads" not in json.loads((saved / "config.json").read_text())
    assert load(saved).config.heads is None


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_everything_comes_back(backbone: str, tmp_path: Path) -> None:
    checkpoint = make(3, backbone=backbone)
    loaded = load(save(checkpoint, tmp_path / "deep" / "er"))
    assert torch.equal(logits(loaded), logits(checkpoint))
    assert loaded.config == checkpoint.config
    assert (loaded.generation, loaded.training, loaded.card) == (checkpoint.generation, {"note": "Übung"}, "# A card\n")
    assert loaded.tokenizer.encode("zwei Hunde 🐕") == TOKENIZER.encode("zwei Hunde 🐕")
    assert loaded.model.training is False


def test_a_card_is_written_where_none_is_given(original: Checkpoint, tmp_path: Path) -> None:
    loaded = load(save(replace(original, card=""), tmp_path / "x"))
    assert "test_efficientnet" in loaded.card
    assert (tmp_path / "x" / "README.md").read_text(encoding="utf-8") == loaded.card


def test_tied_embeddings_survive(saved: Path) -> None:
    assert "decoder.lm_head.weight" not in load_file(saved / "model.safetensors")
    model = load(saved).model
    assert model.decoder.lm_head.weight is model.decoder.token_embedding.weight


def test_half_precision_is_half_the_size_and_loads_single(original: Checkpoint, saved: Path, tmp_path: Path) -> None:
    half = save(original, tmp_path / "half", dtype="fp16")
    with safe_open(half / "model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds == {"F16", "I64"}  # I64: the counters of BatchNorm
    sizes = [(directory / "model.safetensors").stat().st_size for directory in (half, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load(half)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(loaded), logits(original), atol=1e-2, rtol=0)


def test_the_directory_is_plain_files_without_pickle(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == FILES
    for path in saved.iterdir():
        content = path.read_bytes()
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".safetensors":
            header = int.from_bytes(content[:8], "little")
            assert json.loads(content[8 : 8 + header])
        else:
            content.decode("utf-8")
    assert not [path.name for path in saved.parent.iterdir() if path != saved]  # no .partial, no .old


def test_it_loads_offline(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (huggingface_hub, "snapshot_download")):
        monkeypatch.setattr(place, name, Mock(side_effect=AssertionError("a directory needs no network")))
    load(saved)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)


def safetensors_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = safetensors.SafetensorError("IoError(No space left on device)")
    monkeypatch.setattr(safetensors.torch, "save_file", Mock(side_effect=error))


def no_room_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", full_disk)


def no_renaming_of_the_new(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.replace

    def fail(path: Path, target: Any) -> None:
        full_disk() if Path(path).name.endswith(".partial") else rename(path, target)

    monkeypatch.setattr(os, "replace", fail)


@pytest.mark.parametrize(
    "failure", [no_room_for_weights, safetensors_own_error, no_room_for_texts, no_renaming_of_the_new]
)
def test_a_failed_save_leaves_the_old_checkpoint(
    failure: Callable[[pytest.MonkeyPatch], None], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = make(1)
    with monkeypatch.context() as broken:
        failure(broken)
        assert str(saved) in sentence(lambda: save(other, saved), "No space left on device.*; free some space")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    save(other, saved)
    assert torch.equal(logits(load(saved)), logits(other))


def test_a_directory_of_other_things_is_never_replaced(
    original: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "config.json").touch()
    (tmp_path / "empty").mkdir()
    for taken in (tmp_path, tmp_path / "photo.jpg"):
        sentence(lambda taken=taken: save(original, taken), "files other .* choose another --out")
    assert {path.name for path in tmp_path.iterdir()} == {"photo.jpg", "config.json", "empty"}
    monkeypatch.chdir(tmp_path / "empty")  # it would be moved away from under this process
    for here in (".", "..", tmp_path / "empty"):
        sentence(lambda here=here: save(original, here), "the working directory; choose another --out")
    monkeypatch.chdir(tmp_path)
    save(original, tmp_path / "empty")
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES


@pytest.mark.parametrize("name", sorted(FILES - {"training.json", "README.md"}))
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    sentence(lambda: load(saved), name)


@pytest.mark.parametrize("name", ["training.json", "README.md"])
def test_what_only_describes_may_be_missing(name: str, saved: Path) -> None:
    (saved / name).unlink()
    load(saved)


@pytest.mark.parametrize("name", sorted(FILES - {"README.md"}))
def test_a_truncated_file_is_named(name: str, saved: Path) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    sentence(lambda: load(saved), name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"\xff\xfe", "cannot be read"),
        ("config.json", b"[]", "must contain a JSON object"),
        ("config.json", b'{"model_type": "vision-encoder-decoder"}', "has encoder None and decoder None"),
        ("config.json", b'{"format": 99}', "format 1 or 2 .its format is 99.*update captioner"),
        ("config.json", b'{"format": 1}', "setting vision is missing"),
        ("generation.json", b'{"beam": 3}', "did you mean beams"),
        ("tokenizer.json", b"{}", "tokenizer.json is not"),
        ("model.safetensors", b"", "missing or damaged"),
        ("model.safetensors", b"\x80\x04 a pickle, perhaps", "missing or damaged"),
        ("model.safetensors", b"\xff" * 64, "missing or damaged"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, message: str, saved: Path) -> None:
    (saved / name).write_bytes(content)
    assert str(saved) in sentence(lambda: load(saved), message) or name == "tokenizer.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("decoder.final_norm.bias"), r"lacks decoder\.final_norm\.bias \(and 0 more\)"),
        (lambda w: w.update(extra=torch.zeros(1)), "has an unknown extra"),
        (lambda w: w.update({"decoder.final_norm.bias": torch.zeros(3)}), "another shape of decoder.final_norm.bias"),
    ],
)
def test_weights_of_another_model_are_refused(change: Callable[[Any], Any], message: str, saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    change(weights)
    save_file(weights, saved / "model.safetensors")
    sentence(lambda: load(saved), message)


def test_an_unknown_setting_is_refused_with_the_nearest(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    values["decoder"]["widht"] = values["decoder"].pop("width")
    (saved / "config.json").write_text(json.dumps(values))
    assert "config.json" in sentence(lambda: load(saved), r"decoder\.widht; did you mean decoder\.width\?")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for name in ("nowhere", "./nowhere", tmp_path / "nowhere", file, "a/b/c", "~/x"):
        sentence(lambda name=name: find(name), "not a checkpoint directory")
    sentence(lambda: load(tmp_path), "config.json cannot be read")


def test_the_best_of_a_training_run_is_its_checkpoint(original: Checkpoint, tmp_path: Path) -> None:
    save(original, tmp_path / "best")
    (tmp_path / "log.jsonl").touch()
    assert find(tmp_path) == tmp_path / "best"
    assert find(tmp_path / "best") == tmp_path / "best"
    assert torch.equal(logits(load(tmp_path)), logits(original))


def test_a_hub_id_is_fetched(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, revision, allow_patterns: asked.append(name) or str(saved)
    )
    assert load("org/name").config == load(saved).config
    assert asked == ["org/name", "org/name"]  # its config.json first


@pytest.mark.parametrize("error", [OSError("offline\nlong story"), ValueError()])
def test_a_hub_that_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=error))
    reason = "offline" if error.args else "ValueError"
    sentence(lambda: load("org/name"), rf"org/name is not a directory and cannot be downloaded .*\({reason}\)")


def test_the_model_that_ships(monkeypatch: pytest.MonkeyPatch, saved: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(locate, "SHIPPED", saved)
    assert load().config == load(saved).config
    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "nothing")
    sentence(load, "contains no model")


def test_ids_come_from_the_config_not_the_tokenizer(original: Checkpoint, tmp_path: Path) -> None:
    text = TextConfig(bos_id=2, eos_id=2, pad_id=2, lowercase=False)
    model = Captioner(replace(original.config, text=text))
    loaded = load(
        save(replace(original, model=model, tokenizer=CaptionTokenizer(TOKENIZER.model, text)), tmp_path / "x")
    )
    assert loaded.tokenizer.config == loaded.config.text == text
