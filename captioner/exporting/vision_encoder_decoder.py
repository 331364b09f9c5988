"""A captioner as a ``VisionEncoderDecoderModel`` of transformers, written without transformers.

The inverse of ``checkpoint/hugging_face/vision_encoder_decoder.py`` for GPT-2 decoders. A plain ViT or DeiT becomes
transformers' own class, any other backbone that gives a sequence a ``TimmWrapperModel``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.hugging_face.decoders.gpt2 import AROUND, BLOCK
from captioner.config import DecoderConfig, PreprocessConfig
from captioner.errors import UsageError, quoted
from captioner.exporting.decoding import defaults_of
from captioner.exporting.encoders import Encoder, encoder_of
from captioner.text.portable import adds_space, names_of, portable

_PLAIN: dict[str, Any] = {  # of ``DecoderConfig``, for GPT-2
    "cross_gate": False,
    "prefix": 0,
    "head_width": None,
    "norm": "pre",
    "activation": "gelu_tanh",
    "embedding_norm": False,
    "embedding_scale": 1.0,
    "final_norm": True,
    "head": "tied",
    "memory_width": None,
}


def obstacle(checkpoint: Checkpoint) -> str | None:
    """Return the part of a captioner that a ``VisionEncoderDecoderModel`` does not have; None if it is one."""
    config = checkpoint.config
    patterns = config.decoder.self_pattern + config.decoder.cross_pattern
    if patterns.strip("G"):
        return "mixed attention"
    for name, value in _PLAIN.items():
        if getattr(config.decoder, name) != value:
            return f"decoder.{name} {getattr(config.decoder, name)}"
    if config.labels is not None:
        return "labels"
    if config.vision.norm or config.vision.positions:
        return "norm or positions over the features"
    if config.preprocess.aspect == "pad":
        return "padding of photos"
    return None if encoder_of(checkpoint.model.vision, config) is not None else f"backbone {config.vision.backbone}"


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config, weights, processor and tokenizer into ``folder``; ``checkpoint`` has no ``obstacle``.

    Raises ``UsageError`` for a default prefix, which no setting of transformers expresses.
    """
    config, defaults = checkpoint.config, defaults_of(checkpoint)
    if defaults.prefix:
        raise UsageError(
            f"the default prefix {quoted(checkpoint.generation.rules.prefix)} cannot be exported to transformers; save "
            "the captioner with an empty prefix, and give generate the tokens as decoder_input_ids"
        )
    encoder = encoder_of(checkpoint.model.vision, config)
    assert encoder is not None
    text = defaults.text
    ids = {
        "bos_token_id": text.bos_id,
        "eos_token_id": text.eos_id,
        "pad_token_id": text.pad_id,
        "decoder_start_token_id": text.bos_id,
    }
    generation = checkpoint.generation
    searching = {"num_beams": generation.beams, "length_penalty": generation.length_penalty, "early_stopping": "never"}
    files: dict[str, Mapping[str, Any]] = {
        "config.json": {
            "model_type": "vision-encoder-decoder",
            "architectures": ["VisionEncoderDecoderModel"],
            "is_encoder_decoder": True,
            "tie_word_embeddings": False,
            "encoder": encoder.settings,
            "decoder": gpt2_settings(config.decoder, ids),
            **ids,
        },
        "generation_config.json": {
            **ids,
            **defaults.lengths,
            "no_repeat_ngram_size": defaults.no_repeat_ngram,
            "repetition_penalty": generation.rules.repetition_penalty,
            **(searching if generation.beams > 1 else {}),
        },
        "preprocessor_config.json": processor_settings(config.preprocess),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{name}_token": token for name, token in names_of(checkpoint.tokenizer).items()},
            "model_max_length": config.decoder.context,
            "add_prefix_space": adds_space(checkpoint.tokenizer),
            "clean_up_tokenization_spaces": False,
        },
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(str(portable(checkpoint.tokenizer).to_str()), encoding="utf-8")
    save_file(weights(checkpoint, encoder), folder / "model.safetensors", metadata={"format": "pt"})


def gpt2_settings(config: DecoderConfig, ids: Mapping[str, int]) -> dict[str, Any]:
    """Return the settings of the GPT-2 that computes as the decoder does."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.mlp_width,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
        "add_cross_attention": True,
        "is_decoder": True,
        "tie_word_embeddings": True,
        **{name: value for name, value in ids.items() if name != "decoder_start_token_id"},
    }


def processor_settings(config: PreprocessConfig) -> dict[str, Any]:
    """Return the image processor that prepares photos as ``config`` says, up to the rounding of its resampling."""
    values: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.size, "width": config.size},
        "resample": 2 if config.interpolation == "bilinear" else 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }
    resized = round(config.size * config.zoom)
    if config.aspect == "crop":
        values |= {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": resized}}
    elif config.zoom != 1:
        values |= {"image_processor_type": "DeiTImageProcessor", "size": {"height": resized, "width": resized}}
    if config.aspect == "crop" or config.zoom != 1:
        values |= {"do_center_crop": True, "crop_size": {"height": config.size, "width": config.size}}
    return values


def weights(checkpoint: Checkpoint, encoder: Encoder) -> dict[str, Tensor]:
    """Return all tensors by the names of transformers.

    A projection of features that already have the decoder's width becomes part of the cross-attention, where
    transformers has none: kv(proj(x)) is one linear layer.
    """
    model, config = checkpoint.model, checkpoint.config
    named = {f"encoder.{name}": value for name, value in encoder.weights.items()}
    state = model.decoder.state_dict()
    proj = model.vision.proj.state_dict()
    folds = bool(proj) and model.vision.channels == config.decoder.width
    if proj and not folds:
        named |= {f"enc_to_dec_proj.{name}": value for name, value in proj.items()}
    for theirs, ours in AROUND.items():
        for kind in ("weight", "bias"):
            if (value := state.get(f"{ours}.{kind}")) is not None:
                named[f"decoder.transformer.{theirs}.{kind}"] = value
    for layer in range(config.decoder.layers):
        for theirs, ours in BLOCK.items():
            weight, bias = (state[f"blocks.{layer}.{ours}.{kind}"] for kind in ("weight", "bias"))
            if folds and ours == "cross_attn.kv_proj":
                weight, bias = _folded(weight, bias, proj)
            place = f"decoder.transformer.h.{layer}.{theirs}"
            named[f"{place}.weight"] = weight.T if weight.ndim == 2 else weight  # GPT-2 stores (in, out)
            named[f"{place}.bias"] = bias
    named["decoder.lm_head.weight"] = state["token_embedding.weight"]
    return {name: value.detach().to("cpu").clone().contiguous() for name, value in named.items()}


def _folded(weight: Tensor, bias: Tensor, proj: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    exact = weight.double()
    return (exact @ proj["weight"].double()).to(weight), (exact @ proj["bias"].double() + bias.double()).to(bias)
