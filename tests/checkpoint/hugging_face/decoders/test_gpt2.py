"""A decoder initialised from GPT-2 equals GPT-2 until it reads an image."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.checkpoint.hugging_face import load_gpt2
from captioner.config import DecoderConfig
from captioner.errors import CheckpointError
from captioner.models.decoder import Decoder
from captioner.models.vision import EncodedImage

from ..conftest import CONTEXT, WIDTH, shake

CONFIG = DecoderConfig(vocab_size=12, context=CONTEXT, width=WIDTH, layers=2, heads=3)


@pytest.fixture(scope="module")
def gpt2(gpt2_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel(gpt2_config()).eval()
    shake(model, 0)
    directory = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(directory)
    return model, directory


def edited(directory: Path, to: Path, **settings: Any) -> Path:
    """Return a copy of a checkpoint with other settings in its config.json."""
    for file in directory.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    (to / "config.json").write_text(json.dumps(json.loads((to / "config.json").read_text()) | settings))
    return to


@pytest.mark.parametrize("pattern", ["G", "M"])
def test_a_decoder_without_an_image_is_gpt2(gpt2: tuple[Any, Path], pattern: str) -> None:
    model, directory = gpt2
    decoder = Decoder(replace(CONFIG, cross_pattern=pattern, cross_gate=True)).eval()
    load_gpt2(decoder, directory)
    tokens = torch.randint(0, 12, (3, CONTEXT))
    with torch.inference_mode():
        torch.testing.assert_close(
            decoder.double()(tokens), copy.deepcopy(model).double()(tokens).logits, atol=1e-6, rtol=0
        )
        image = decoder.remember(EncodedImage(torch.randn(3, 4, WIDTH, dtype=torch.float64), (2, 2)))
        torch.testing.assert_close(decoder(tokens, image), decoder(tokens))  # its gates are shut: begin as GPT-2
    assert decoder.lm_head.weight is decoder.token_embedding.weight


def test_what_gpt2_has_not_stays(gpt2: tuple[Any, Path]) -> None:
    decoder = Decoder(replace(CONFIG, self_pattern="M", cross_pattern="GM"))
    before = copy.deepcopy(decoder.state_dict())
    load_gpt2(decoder, gpt2[1])
    same = {name for name, value in decoder.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if ".cross_" in name or ".read.gate." in name}


def test_a_shorter_context_takes_the_first_positions(gpt2: tuple[Any, Path]) -> None:
    model, directory = gpt2
    decoder = Decoder(replace(CONFIG, context=6)).eval()
    load_gpt2(decoder, directory)
    tokens = torch.randint(0, 12, (2, 6))
    with torch.inference_mode():
        torch.testing.assert_close(
            decoder.double()(tokens), copy.deepcopy(model).double()(tokens).logits, atol=1e-6, rtol=0
        )


def test_files_of_2019_load(gpt2: tuple[Any, Path], tmp_path: Path) -> None:
    """They lack ``transformer.`` before the names, hold causal masks, and are pickled."""
    model, directory = gpt2
    state = {
        name.removeprefix("transformer."): value for name, value in load_file(directory / "model.safetensors").items()
    }
    state |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    torch.save(state, edited(directory, tmp_path) / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    decoder = Decoder(CONFIG).eval()
    load_gpt2(decoder, tmp_path)
    tokens = torch.randint(0, 12, (2, 6))
    with torch.inference_mode():
        torch.testing.assert_close(
            decoder.double()(tokens), copy.deepcopy(model).double()(tokens).logits, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"width": 32, "heads": 4}, {}, "set decoder.width=24"),
        ({"layers": 3}, {}, "set decoder.layers=2"),
        ({"heads": 2}, {}, "set decoder.heads=3"),
        ({"vocab_size": 13}, {}, "set decoder.vocab_size=12"),
        ({"mlp_width": 50}, {}, "set decoder.mlp_width=96"),
        ({"context": 17}, {}, "16 positions; set decoder.context"),
        ({}, {"model_type": "bert"}, "of type 'bert'"),
        ({}, {"activation_function": "relu"}, "activation_function 'relu'"),
        ({}, {"scale_attn_weights": False}, "scale_attn_weights False"),
        ({}, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({}, {"n_layer": "two"}, "does not describe a GPT-2"),
        ({"layers": 1}, {"n_layer": 1}, "a captioner does not have"),  # tensors of a second layer
        ({"layers": 3}, {"n_layer": 3}, "lacks blocks.2"),
    ],
)
def test_another_model_is_refused(
    gpt2: tuple[Any, Path], config: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    decoder = Decoder(replace(CONFIG, **config))
    before = copy.deepcopy(decoder.state_dict())
    with pytest.raises(CheckpointError, match=message):
        load_gpt2(decoder, edited(gpt2[1], tmp_path, **settings))
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_head_of_its_own_is_refused(gpt2: tuple[Any, Path], tied: bool, tmp_path: Path) -> None:
    directory = gpt2[1]
    state = load_file(directory / "model.safetensors")
    state["lm_head.weight"] = state["transformer.wte.weight"] + (0 if tied else 1)
    save_file(state, edited(directory, tmp_path) / "model.safetensors")
    if tied:
        load_gpt2(Decoder(CONFIG), tmp_path)
    else:
        with pytest.raises(CheckpointError, match="output head"):
            load_gpt2(Decoder(CONFIG), tmp_path)
