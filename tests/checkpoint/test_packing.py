"""Packed weight files are small, load like others, and are refused in one sentence if they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.checkpoint import Checkpoint, load, save
from captioner.checkpoint.files import read_shapes
from captioner.checkpoint.packing import SCALE, packable, packed, unpacked
from captioner.config import CaptionerConfig, DecoderConfig, GenerationConfig, PreprocessConfig, VisionConfig
from captioner.errors import CheckpointError
from captioner.inference import prepare
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer

Packed = Literal["int8", "int4"]
TOKENIZER = train_tokenizer(["a dog on a beach"], 262)


@pytest.fixture(scope="module")
def original() -> Checkpoint:
    torch.manual_seed(0)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=DecoderConfig(vocab_size=262, width=64, layers=2, heads=2, cross_pattern="M", context=32),
        text=TOKENIZER.config,
        preprocess=PreprocessConfig(size=32),
    )
    return Checkpoint(Captioner(config).eval(), TOKENIZER, GenerationConfig())


@pytest.fixture(params=["int8", "int4"])
def dtype(request: pytest.FixtureRequest) -> Packed:
    kind: Packed = request.param
    return kind


@pytest.fixture
def saved(original: Checkpoint, dtype: Packed, tmp_path: Path) -> Path:
    return save(original, tmp_path / "packed", dtype=dtype)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoded = model.encode_image(pixels)
    tokens = torch.tensor([[1, 5, 9], [1, 7, 2]])
    return model.decoder(tokens, model.decoder.remember(encoded))


def test_it_is_small_and_close(original: Checkpoint, saved: Path, dtype: Packed) -> None:
    whole = save(original, saved.with_name("whole"))
    share = (saved / "model.safetensors").stat().st_size / (whole / "model.safetensors").stat().st_size
    assert share < (0.36 if dtype == "int8" else 0.30)  # names and fp16 norms weigh much in a tiny model
    loaded = load(saved)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}, "it can be trained"
    before, after = logits(original.model), logits(loaded.model)
    assert float((after - before).norm() / before.norm()) < (0.02 if dtype == "int8" else 0.12)


def test_each_kind_of_weight_has_its_bits(original: Checkpoint) -> None:
    bits = packable(original.model, bits=4)
    assert bits["decoder.blocks.0.fc1.weight"] == 4
    assert bits["decoder.token_embedding.weight"] == bits["vision.proj.weight"] == 8
    small = [name for name in original.model.state_dict() if "gate" in name or "focus" in name or "norm" in name]
    assert small
    assert not bits.keys() & set(small)
    assert set(packable(original.model, bits=8).values()) == {8}


def test_it_saves_and_loads_again_as_any_other(saved: Path, tmp_path: Path, dtype: Packed) -> None:
    """Its weights survive a copy in fp32 exactly, and packing them again is almost free of further loss."""
    loaded = load(saved)
    plain = load(save(loaded, tmp_path / "plain"))
    assert json.loads((saved / "config.json").read_text())["format"] == 2
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["format"] == 1
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(plain.model.state_dict()[name], value), name
    again = load(save(loaded, tmp_path / "again", dtype=dtype))
    torch.testing.assert_close(logits(again.model), logits(loaded.model), rtol=1e-3, atol=1e-4)


def test_int8_inference_packs_the_levels_of_the_file(original: Checkpoint, tmp_path: Path) -> None:
    loaded = load(save(original, tmp_path / "packed", dtype="int8"))
    first, second = (logits(prepare(checkpoint, "int8").model) for checkpoint in (original, loaded))
    # The levels are the same; convolutions, which int8 inference leaves in fp32, and fp16 biases are rounded.
    assert float((first - second).norm() / first.norm()) < 0.03


def test_header_gives_the_shapes_of_the_weights(original: Checkpoint, saved: Path) -> None:
    shapes = read_shapes(saved / "model.safetensors")
    expected = {name: tuple(value.shape) for name, value in original.model.state_dict().items()}
    assert shapes.items() <= expected.items()


def test_odd_tensors_get_more_bits() -> None:
    weight = torch.ones(16, 32)
    bits = {"huge": 4, "odd": 4, "plain": 4}
    weights = {"huge": weight * 1e6, "odd": weight.clone().fill_(torch.nan), "plain": weight, "bias": weight[0] * 1e6}
    made = packed(weights, bits)
    assert made["huge"].dtype == torch.int8
    assert made["odd"].isnan().all()
    assert made["plain"].dtype == torch.uint8
    assert made["bias"].dtype == torch.float32, "fp16 would be infinite"
    back = unpacked(made, "file")
    torch.testing.assert_close(back["huge"], weights["huge"])
    torch.testing.assert_close(back["plain"], weight, rtol=1e-3, atol=0)


KEY = "decoder.blocks.0.fc1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(KEY), "holds scales without levels, decoder.blocks.0.fc1.weight:scale"),
        (lambda w: w.update({KEY + SCALE: w[KEY + SCALE][:5].clone()}), "do not fit its levels"),
        (lambda w: w.update({KEY + SCALE: w[KEY + SCALE].double()}), "do not fit its levels, F64"),
        (lambda w: w.update({KEY: w[KEY].float()}), "do not fit its levels"),
        (lambda w: w.update({KEY: w[KEY].flatten()}), "do not fit its levels"),
        (lambda w: w[KEY + SCALE].fill_(torch.inf), "values of decoder.blocks.0.fc1.weight out of range"),
        (lambda w: w[KEY + SCALE].fill_(torch.nan), "out of range"),
        (lambda w: w.pop(KEY + SCALE), "holds levels of decoder.blocks.0.fc1.weight without scales"),
        (lambda w: w.update({"decoder.final_norm.bias" + SCALE: torch.ones(64)}), "do not fit its levels"),
    ],
)
def test_a_damaged_file_is_refused(change: Callable[[Any], Any], message: str, saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    change(weights)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved)
    assert "\n" not in str(caught.value)


def test_levels_below_the_range_are_refused(original: Checkpoint, tmp_path: Path) -> None:
    saved = save(original, tmp_path / "packed", dtype="int8")
    weights = load_file(saved / "model.safetensors")
    weights[KEY][0, 0] = -128
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="out of range"):
        load(saved)


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_must_divide_a_row(original: Checkpoint, tmp_path: Path, groups: int) -> None:
    saved = save(original, tmp_path / "packed", dtype="int4")
    weights = load_file(saved / "model.safetensors")
    weights[KEY + SCALE] = torch.ones(len(weights[KEY]), groups, dtype=torch.float16)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit its levels"):
        load(saved)
