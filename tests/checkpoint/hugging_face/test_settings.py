"""The JSON files of a VisionEncoderDecoderModel: supported settings, and errors for the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig, TextConfig, WordRules
from captioner.errors import CheckpointError


@pytest.fixture(scope="module")
def original(vit_gpt2: Callable[..., tuple[Any, Path]]) -> Path:
    return vit_gpt2(0)[1]


@pytest.fixture
def source(original: Path, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint for editing."""
    for file in original.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def edit(path: Path, change: dict[str, Any], *, part: str | None = None) -> None:
    values = json.loads(path.read_text())
    (values[part] if part else values).update(change)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            None,
            {"model_type": "git"},
            "of type 'git'; types that can be converted: vision-encoder-decoder, blip, captioner",
        ),
        (None, {"encoder": None}, "has encoder None"),
        (
            "encoder",
            {"model_type": "convnext"},
            "has encoder 'convnext' .* of type vit, deit, swin, .* and a decoder of type gpt2, bert, ",
        ),
        ("decoder", {"model_type": "xlnet"}, "decoder 'xlnet'"),
        ("decoder", {"model_type": "blip_text_model"}, "decoder 'blip_text_model'"),
        ("encoder", {"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
        ("encoder", {"num_channels": 1}, "num_channels 1"),
        ("encoder", {"image_size": [16, 24]}, "image_size"),
        ("encoder", {"image_size": 32}, "images of 16 pixels for an encoder of 32"),
        ("encoder", {"num_hidden_layers": 1}, "a captioner does not have"),
        ("encoder", {"num_hidden_layers": 3}, "lacks vision.backbone.blocks.2"),
        ("encoder", {"intermediate_size": 48}, "another shape"),
        ("encoder", {"num_attention_heads": 5}, "cannot be built"),
        ("decoder", {"activation_function": "relu"}, "activation_function 'relu'"),
        ("decoder", {"n_head": 5}, "multiple of decoder.heads"),
        ("decoder", {"vocab_size": 14}, "decoder.vocab_size 12, not 14"),
    ],
)
def test_what_cannot_be_imported_is_named(source: Path, part: str | None, change: dict[str, Any], message: str) -> None:
    edit(source / "config.json", change, part=part)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(source: Path, name: str) -> None:
    (source / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        convert(source)


@pytest.mark.parametrize(
    ("generation", "text"),
    [
        ({}, (0, 1, 1)),
        ({"decoder_start_token_id": 5, "eos_token_id": [3], "pad_token_id": 4}, (5, 3, 4)),
        ({"decoder_start_token_id": None, "bos_token_id": 7, "pad_token_id": None}, (7, 1, 1)),
    ],
)
def test_ids_fall_back_as_generate_does(source: Path, generation: dict[str, Any], text: tuple[int, int, int]) -> None:
    path = source / "generation_config.json"
    edit(path, generation)
    start, end, pad = text
    assert convert(source).config.text == TextConfig(bos_id=start, eos_id=end, pad_id=pad, lowercase=False)


@pytest.mark.parametrize("value", [[1, 2], 12, "end"])
def test_an_impossible_id_is_named(source: Path, value: Any) -> None:
    edit(source / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(CheckpointError, match="eos_token_id"):
        convert(source)


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 20},
        {"max_length": 9, "min_length": 0},
        {"max_length": 9, "max_new_tokens": 12},
        {"min_length": 7},
        {"min_length": 7, "min_new_tokens": 4},
        {"min_length": 7, "min_new_tokens": 0},
    ],
)
def test_lengths_are_those_of_generate(
    settings: dict[str, Any], vit_gpt2: Callable[..., tuple[Any, Path]], pixels: torch.Tensor
) -> None:
    """A caption that never wants to end has the maximum, and one that wants to end at once the minimum."""
    model, directory = vit_gpt2(0, decoder={"n_positions": 40})
    edit(directory / "generation_config.json", settings)
    end = model.generation_config.eos_token_id
    longest, shortest = (
        model.generate(pixel_values=pixels[:1], do_sample=False, **settings, **options).shape[1] - 1
        for options in ({"suppress_tokens": [end]}, {"sequence_bias": [[[end], 1e4]]})
    )
    found = convert(directory).generation
    assert (found.min_tokens, found.max_tokens) == (shortest, longest)


def test_beside_generation_config_only_ids_of_config_json_count(source: Path) -> None:
    edit(source / "config.json", {"max_length": 9, "num_beams": 4}, part="decoder")
    assert convert(source).generation == GenerationConfig(max_tokens=20, length_penalty=1.0)
    (source / "generation_config.json").unlink()
    assert convert(source).generation == GenerationConfig(beams=4, max_tokens=8, length_penalty=1.0)


def test_diverse_beams(source: Path) -> None:
    path = source / "generation_config.json"
    edit(path, {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5})
    found = convert(source)
    assert (found.generation.beams, found.generation.groups, found.generation.diversity) == (4, 2, 0.5)
    assert found.training["generation_ignored"] == {}
    edit(path, {"num_beam_groups": 1})  # generate ignores the penalty
    assert (convert(source).generation.groups, convert(source).generation.diversity) == (1, 0.0)
    edit(path, {"num_beam_groups": 3})
    with pytest.raises(CheckpointError, match="4 beams cannot be split into 3"):
        convert(source)


@pytest.mark.parametrize(
    ("settings", "ignored"),
    [
        ({"do_sample": False, "temperature": 0.7, "top_k": 50, "early_stopping": "never"}, ()),
        (
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5},
            ("do_sample", "temperature", "top_k", "top_p"),
        ),
        ({"exponential_decay_length_penalty": [3, 1.1]}, ("exponential_decay_length_penalty",)),
        ({"sequence_bias": [[[3], -1.0]], "bad_words_ids": [[4]]}, ("sequence_bias", "bad_words_ids")),
        ({"encoder_no_repeat_ngram_size": 2}, ("encoder_no_repeat_ngram_size",)),
        ({"guidance_scale": 3, "early_stopping": True}, ("early_stopping", "guidance_scale")),
        ({"guidance_scale": 1, "encoder_no_repeat_ngram_size": 0, "suppress_tokens": []}, ()),
    ],
)
def test_settings_that_are_not_applied_are_listed(
    source: Path, settings: dict[str, Any], ignored: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(source / "generation_config.json", settings)
    found = convert(source)
    assert found.training["generation_ignored"] == {name: settings[name] for name in ignored}
    assert found.generation.sampling is None
    said = capsys.readouterr().err
    assert said.count("\n") == bool(ignored)
    assert all(f"{name} {settings[name]!r}" in said for name in ignored)


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_generation_defaults(source: Path, place: str) -> None:
    if place == "config.json":
        (source / "generation_config.json").unlink()
    settings = {"num_beams": 4, "max_length": 16, "length_penalty": 0.6, "repetition_penalty": 1.2, "do_sample": False}
    settings |= {"no_repeat_ngram_size": 3}
    edit(source / place, settings | {"decoder_start_token_id": 0})
    found = convert(source)
    assert found.generation == GenerationConfig(
        beams=4, max_tokens=15, length_penalty=0.6, rules=WordRules(no_repeat_ngram=3)
    )
    assert found.training["generation_ignored"] == {"repetition_penalty": 1.2}
    edit(source / place, {"max_new_tokens": 9})
    assert convert(source).generation.max_tokens == 9
    edit(source / place, {"num_beams": 0})
    with pytest.raises(CheckpointError, match="beams"):
        convert(source)


def test_half_precision_weights_become_single(source: Path) -> None:
    state = {name: value.half() for name, value in load_file(source / "model.safetensors").items()}
    save_file(state, source / "model.safetensors")
    model = convert(source).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.decoder.token_embedding.weight, state["decoder.transformer.wte.weight"].float())
