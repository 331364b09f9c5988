"""Random decoders of transformers, converted, give the originals' logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.hugging_face.decoders import DECODERS
from captioner.config import DecoderConfig
from captioner.errors import CheckpointError
from captioner.layers.cache import DecoderCache
from captioner.models.decoder import Decoder
from captioner.models.fit import load_weights
from captioner.models.vision import EncodedImage

from ..conftest import shake

WORDS, WIDTH, CONTEXT, PATCHES = 40, 24, 18, 6
BERT = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": CONTEXT,
    "is_decoder": True,
    "add_cross_attention": True,
}
BART = {
    "vocab_size": WORDS,
    "d_model": WIDTH,
    "decoder_layers": 2,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": CONTEXT,
    "is_decoder": True,
    "add_cross_attention": True,
}
GPT2 = {
    "vocab_size": WORDS,
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": CONTEXT,
    "add_cross_attention": True,
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT2),
    "bert": ("BertConfig", "BertLMHeadModel", BERT),
    "bert, tanh, other eps": (
        "BertConfig",
        "BertLMHeadModel",
        BERT | {"hidden_act": "gelu_new", "layer_norm_eps": 0.1},
    ),
    "bert, relu, one layer": ("BertConfig", "BertLMHeadModel", BERT | {"hidden_act": "relu", "num_hidden_layers": 1}),
    "roberta": ("RobertaConfig", "RobertaForCausalLM", BERT | {"max_position_embeddings": CONTEXT + 2}),
    "blip": ("BlipTextConfig", "BlipTextLMHeadModel", BERT | {"encoder_hidden_size": WIDTH}),
    "blip, wider image": ("BlipTextConfig", "BlipTextLMHeadModel", BERT | {"encoder_hidden_size": 32}),
    "bart": ("BartConfig", "BartForCausalLM", BART),
    "bart, scaled": ("BartConfig", "BartForCausalLM", BART | {"scale_embedding": True, "activation_function": "relu"}),
    "mbart": ("MBartConfig", "MBartForCausalLM", BART),
    "mbart, scaled": ("MBartConfig", "MBartForCausalLM", BART | {"scale_embedding": True}),
    "trocr": ("TrOCRConfig", "TrOCRForCausalLM", BART),
    "trocr, wider image": ("TrOCRConfig", "TrOCRForCausalLM", BART | {"cross_attention_hidden_size": 32}),
    "trocr, sinusoids": (
        "TrOCRConfig",
        "TrOCRForCausalLM",
        BART | {"use_learned_position_embeddings": False, "layernorm_embedding": False, "scale_embedding": True},
    ),
    "trocr, sinusoids, other padding": (
        "TrOCRConfig",
        "TrOCRForCausalLM",
        BART | {"use_learned_position_embeddings": False, "pad_token_id": 0},
    ),
    "trocr, untied": ("TrOCRConfig", "TrOCRForCausalLM", BART | {"tie_word_embeddings": False}),
}
Converted = tuple[Any, dict[str, Any], dict[str, torch.Tensor], int]


@pytest.fixture
def original(tmp_path: Path) -> Callable[..., Converted]:
    """Return ``make(kind, seed)``: a model of transformers, its config.json, its tensors, the width it reads."""

    def make(kind: str, seed: int = 0) -> Converted:
        import transformers

        config, model_class, settings = KINDS[kind]
        model = getattr(transformers, model_class)(getattr(transformers, config)(**settings)).eval()
        shake(model, seed)
        model.save_pretrained(tmp_path)
        width = settings.get("encoder_hidden_size", settings.get("cross_attention_hidden_size", WIDTH))
        return model, model.config.to_dict(), load_file(tmp_path / "model.safetensors"), width

    return make


def convert(values: dict[str, Any], state: dict[str, torch.Tensor], width: int) -> Decoder:
    family = DECODERS[values["model_type"]]
    config = family.decoder_config(values, memory_width=None if width == WIDTH else width, source="it")
    decoder = Decoder(config).eval()
    load_weights(decoder, family.decoder_weights(values, state, config, "it"), "it")
    return decoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
@torch.inference_mode()
def test_logits_are_the_originals(kind: str, seed: int, original: Callable[..., Converted]) -> None:
    """Compare in fp64, which separates a wrong formula from rounding."""
    model, values, state, width = original(kind, seed)
    model, decoder = model.double(), convert(values, state, width).double()
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(3, PATCHES, width, dtype=torch.float64, generator=generator)
    tokens = torch.randint(3, WORDS, (3, CONTEXT), generator=generator)
    wanted = model(input_ids=tokens, encoder_hidden_states=image).logits
    assert wanted.std() > 0.5  # far from flat, or agreement would prove little
    memory = decoder.remember(EncodedImage(image, (2, 3)))
    torch.testing.assert_close(decoder(tokens, memory), wanted, atol=3e-5, rtol=0)
    cache: DecoderCache = decoder.new_cache(3, CONTEXT)
    steps = [decoder(tokens[:, place : place + 1], memory, cache) for place in range(CONTEXT)]
    torch.testing.assert_close(torch.cat(steps, dim=1), wanted, atol=3e-5, rtol=0)


@torch.inference_mode()
def test_a_question_is_read_in_both_directions(original: Callable[..., Converted]) -> None:
    from transformers import BlipTextConfig, BlipTextModel

    model = BlipTextModel(BlipTextConfig(**BERT | {"encoder_hidden_size": 32}), add_pooling_layer=False).eval()
    shake(model, 0)
    values = model.config.to_dict()
    family = DECODERS["blip_text_model"]
    config = DecoderConfig(
        **{
            **vars(family.decoder_config(values, memory_width=32, source="it")),
            "causal": False,
            "head": "none",
        }
    )
    encoder = Decoder(config).eval().double()
    load_weights(encoder, family.decoder_weights(values, model.state_dict(), config, "it"), "it")
    image, tokens = torch.randn(2, PATCHES, 32, dtype=torch.float64), torch.randint(3, WORDS, (2, 7))
    wanted = model.double()(input_ids=tokens, encoder_hidden_states=image, is_decoder=False).last_hidden_state
    states = encoder.states(tokens, encoder.remember(EncodedImage(image, (2, 3))))
    torch.testing.assert_close(states, wanted, atol=3e-5, rtol=0)


def test_names_of_older_files(original: Callable[..., Converted]) -> None:
    """They hold position ids, both names of the bias, the tied head, and gamma and beta of norms."""
    _, values, state, width = original("blip")
    bias, words = state["cls.predictions.bias"], state["bert.embeddings.word_embeddings.weight"]
    older = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()}
    older |= {"cls.predictions.decoder.bias": bias, "cls.predictions.decoder.weight": words.clone()}
    older |= {"bert.embeddings.position_ids": torch.arange(CONTEXT)[None]}
    decoder = convert(values, older, width)
    assert torch.equal(decoder.lm_head.bias, bias)  # type: ignore[arg-type]
    del older["cls.predictions.bias"]
    assert torch.equal(convert(values, older, width).lm_head.bias, bias)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("blip", "cls.predictions.decoder.bias", "two different biases"),
        ("bert", "cls.predictions.decoder.weight", "must be tied"),
        ("roberta", "lm_head.decoder.weight", "must be tied"),
        ("trocr", "output_projection.weight", "set tie_word_embeddings there"),
        ("bart", "layers.7.fc1.weight", "which a captioner does not have"),
        ("bert", "encoder.layer.9.output.dense.bias", "which a captioner does not have"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    kind: str, name: str, message: str, original: Callable[..., Converted]
) -> None:
    _, values, state, width = original(kind)
    state[name] = torch.randn(WORDS, WIDTH) if name.endswith("weight") else torch.randn(WORDS)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(values, state, width)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bert", {"hidden_act": "silu"}, "hidden_act 'silu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings False"),
        ("bert", {"num_attention_heads": 5}, "multiple of decoder.heads"),
        ("bert", {"max_position_embeddings": "many"}, "decoder.context|context"),
        ("roberta", {"pad_token_id": 0}, "positions need 1"),
        ("roberta", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("bart", {"activation_function": "swish"}, "activation_function 'swish'"),
        ("bart", {"d_model": "wide"}, "decoder"),
        ("trocr, sinusoids", {"pad_token_id": None}, "pad_token_id None"),
        ("trocr, sinusoids", {"pad_token_id": WORDS}, f"pad_token_id {WORDS}"),
    ],
)
def test_settings_without_a_counterpart_are_named(
    kind: str, change: dict[str, Any], message: str, original: Callable[..., Converted]
) -> None:
    _, values, state, width = original(kind)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(values | change, state, width)
    assert "\n" not in str(caught.value)
