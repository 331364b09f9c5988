"""A random BLIP of transformers, imported, gives the original's logits, captions and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import captioner
from captioner.checkpoint import load, save
from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig, TextConfig
from captioner.errors import CheckpointError
from captioner.generation.search import search
from captioner.inference import prepare

from .conftest import CLS, DEC, PAD, SEP, SIDE, WORDS, same_logits

Make = Callable[..., tuple[Any, Path]]


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def until_end(row: torch.Tensor) -> list[int]:
    """Return the tokens of transformers' ``generate`` after the start token, up to the end token."""
    tokens = row.tolist()[1:]
    return tokens[: tokens.index(SEP)] if SEP in tokens else tokens


@pytest.mark.parametrize(("seed", "width"), [(0, 24), (1, 32), (2, 16)])
@torch.inference_mode()
def test_logits_are_the_originals(seed: int, width: int, blip: Make, pixels: torch.Tensor) -> None:
    model, directory = blip(seed, width=width)
    checkpoint = convert(directory)
    tokens = torch.randint(4, len(WORDS), (4, 9))
    same_logits(checkpoint.model, model, pixels, tokens, name="input_ids")
    assert checkpoint.config.decoder.memory_width == (None if width == 24 else width)
    assert checkpoint.config.text == TextConfig(bos_id=DEC, eos_id=SEP, pad_id=PAD, lowercase=False)
    preprocess = checkpoint.config.preprocess
    assert (preprocess.size, preprocess.aspect, preprocess.interpolation) == (SIDE, "squash", "bicubic")
    assert preprocess.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["", "a picture of"])
@torch.inference_mode()
def test_captions_are_the_originals(beams: int, prompt: str, blip: Make, pixels: torch.Tensor) -> None:
    model, directory = blip()
    checkpoint = convert(directory)
    begun = checkpoint.tokenizer.encode(prompt)
    start = torch.tensor([[CLS, *begun, SEP]]).repeat(len(pixels), 1) if prompt else None
    wanted = model.generate(
        pixel_values=pixels,
        input_ids=start,
        num_beams=beams,
        max_new_tokens=10,
        length_penalty=1.0,
        early_stopping="never" if beams > 1 else None,
    )
    config = GenerationConfig(beams=beams, max_tokens=10 + len(begun), length_penalty=1.0)
    config = GenerationConfig(**{**vars(config), "rules": type(config.rules)(prefix=prompt)})
    for prepared in (checkpoint, prepare(checkpoint, "fp32")):
        found = []
        for image in pixels:  # one by one, then together: company changes nothing
            memory = prepared.model.remember(prepared.model.encode_image(image[None]))
            found += written(prepared, memory, config)
        together = prepared.model.remember(prepared.model.encode_image(pixels))
        assert found == written(prepared, together, config) == [until_end(row) for row in wanted]


def written(checkpoint: Any, memory: Any, config: GenerationConfig) -> list[list[int]]:
    from captioner.generation.rules import compile_rules

    rules = compile_rules(config, checkpoint.tokenizer)
    captions = search(checkpoint.model.decoder, memory, checkpoint.config.text, config, rules=rules)
    return [[token for token in best[0].tokens if token != SEP] for best in captions]


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
def test_without_a_length_a_caption_has_as_many_tokens_as_generate_writes(blip: Make, pixels: torch.Tensor) -> None:
    model, directory = blip()
    written = model.generate(pixel_values=pixels[:1], suppress_tokens=[SEP])
    assert convert(directory).generation.max_tokens == written.shape[1] - 1 == 20


@torch.inference_mode()
def test_a_converted_blip_is_saved_and_loaded(blip: Make, pixels: torch.Tensor, tmp_path: Path) -> None:
    _, directory = blip(width=32)
    checkpoint = convert(directory)
    again = load(save(checkpoint, tmp_path / "saved"))
    tokens = torch.randint(4, len(WORDS), (4, 1, 9))
    assert torch.equal(again.model(tokens, pixels).logits, checkpoint.model(tokens, pixels).logits)
    assert again.config == checkpoint.config
    assert again.tokenizer.encode("two dogs?") == checkpoint.tokenizer.encode("two dogs?")


@pytest.mark.parametrize(("width", "heads", "used"), [(768, 8, 12), (24, 8, None), (24, 3, 3)])
def test_old_configs_give_wrong_heads(width: int, heads: int, used: int | None, blip: Make) -> None:
    """Copies from before April 2023 give 8 heads to the base model's 768."""
    if used is None:
        pytest.skip("24 is no multiple of 16") if width % heads else None
    _, directory = blip(hidden_size=width, num_attention_heads=heads if heads != 8 else 12, width=width)
    settings = json.loads((directory / "config.json").read_text())
    settings["text_config"]["num_attention_heads"] = heads
    (directory / "config.json").write_text(json.dumps(settings))
    checkpoint = convert(directory)
    assert checkpoint.config.decoder.heads == (used or heads)
    assert len(checkpoint.training["corrected"]) == (width == 768)
    del settings["text_config"]["num_attention_heads"]  # transformers' default is 8 too
    if width == 768:
        (directory / "config.json").write_text(json.dumps(settings))
        assert convert(directory).config.decoder.heads == 12


def test_pickled_weights_and_older_names_load(blip: Make) -> None:
    _, directory = blip()
    wanted = convert(directory).model.state_dict()
    state = load_file(directory / "model.safetensors")
    state["text_decoder.bert.embeddings.position_ids"] = torch.arange(30)[None]
    state["text_decoder.cls.predictions.decoder.bias"] = state["text_decoder.cls.predictions.bias"]
    state["text_decoder.cls.predictions.decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    torch.save(state, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    found = convert(directory).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@torch.inference_mode()
def test_answers_are_the_originals(blip: Make, pixels: torch.Tensor) -> None:
    model, directory = blip(task="QuestionAnswering")
    checkpoint = convert(directory)
    assert checkpoint.config.text.question_id == CLS
    question = torch.tensor([[CLS, *checkpoint.tokenizer.encode("how many dogs?"), SEP]]).repeat(4, 1)
    wanted = model.generate(pixel_values=pixels, input_ids=question, max_new_tokens=8)
    config = GenerationConfig(max_tokens=8)
    for prepared in (checkpoint, prepare(checkpoint, "fp32")):
        encoded = prepared.model.encode_question(prepared.model.encode_image(pixels), question)
        memory = prepared.model.decoder.remember(encoded)
        assert written(prepared, memory, config) == [until_end(row) for row in wanted]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"hidden_act": "silu"}}, "hidden_act 'silu'"),
        ({"text_config": {"sep_token_id": 900}}, "eos_token_id 900"),
        ({"text_config": {"num_attention_heads": 5}}, "multiple of decoder.heads"),
        ({"text_config": {"num_hidden_layers": 5}}, "lacks decoder.blocks|holds weights for decoder.layers 2, not 5"),
        ({"text_config": {"num_hidden_layers": 900}}, "more layers than its weights"),
        ({"vision_config": {"image_size": 48}}, "32 pixels for an encoder of 48"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
        ({"model_type": "blip-2"}, "of type 'blip-2'"),
    ],
)
def test_what_cannot_be_imported_is_named(change: dict[str, Any], message: str, blip: Make) -> None:
    _, directory = blip()
    settings = json.loads((directory / "config.json").read_text())
    for name, value in change.items():
        settings[name] = settings[name] | value if isinstance(value, dict) else value
    (directory / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(directory)
    assert "\n" not in str(caught.value)


def test_a_blip_for_retrieval_is_refused(blip: Make) -> None:
    _, directory = blip()
    state = load_file(directory / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith("text_decoder")}
    save_file(kept, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match="without a text decoder, such as one for retrieval"):
        convert(directory)


def test_the_tools_see_a_captioner_like_any_other(blip: Make, tmp_path: Path) -> None:
    """Explanations, words, required words, streams, int8 and transformers' calls, on one photo."""
    _, directory = blip()
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 30), (200, 30, 60)).save(photo)
    pipe = captioner.load(directory, device="cpu")
    caption = pipe.caption(photo, beams=3)
    assert " ".join(word.text for word in caption.words).replace("- ", "-").split() == caption.text.split()
    seen = pipe.explain(photo)
    assert list(seen.words) == [word.text for word in pipe.caption(photo, beams=1).words]
    assert "t-shirt" in pipe.caption(photo, require=["t-shirt"], max_tokens=12).text
    assert pipe.caption(photo, prefix="a picture of", max_tokens=12).text.startswith("a picture of")
    assert "".join(pipe.stream_words(photo)) == pipe.caption(photo, beams=1).text
    assert captioner.load(directory, device="cpu", precision="int8").caption(photo).text
    called = captioner.pipeline("image-to-text", model=str(directory), device=-1)
    assert called(str(photo))[0]["generated_text"] == pipe.caption(photo).text
