"""Random VisionEncoderDecoderModels of every decoder, imported, write the originals' captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import load
from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig
from captioner.generation.search import search
from captioner.inference import prepare

from .conftest import CONTEXT, IMAGE, PATCH, WIDTH, same_logits, shake, tokenizer_json

V, START, END, PAD, MOST = 12, 0, 1, 2, 9
BERT = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
BART = {"d_model": WIDTH, "decoder_layers": 2, "decoder_attention_heads": 3, "decoder_ffn_dim": 40}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {**BERT, "max_position_embeddings": CONTEXT}),
    "roberta": ("RobertaConfig", {**BERT, "max_position_embeddings": CONTEXT + 2, "pad_token_id": 1}),
    "bart": ("BartConfig", {**BART, "max_position_embeddings": CONTEXT, "encoder_layers": 2, "scale_embedding": True}),
    "mbart": ("MBartConfig", {**BART, "max_position_embeddings": CONTEXT, "encoder_layers": 2}),
    "trocr": ("TrOCRConfig", {**BART, "max_position_embeddings": CONTEXT}),
    "trocr that reads another width": (
        "TrOCRConfig",
        {**BART, "max_position_embeddings": CONTEXT, "cross_attention_hidden_size": 32},
    ),
}


def make(kind: str, folder: Path, width: int, seed: int) -> Any:
    import transformers

    config_class, settings = DECODERS[kind]
    vit = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    ids = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**vit, image_size=IMAGE, patch_size=PATCH),
        getattr(transformers, config_class)(**{"vocab_size": V, **ids, **settings}),
    )
    model = transformers.VisionEncoderDecoderModel(config).eval()
    shake(model, seed)
    for name, token in (*ids.items(), ("decoder_start_token_id", START)):
        setattr(model.generation_config, name, token)
    model.generation_config.forced_eos_token_id = None  # BART's: the last token of a caption that is cut off
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(V), encoding="utf-8")
    return model


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(("width", "seed"), [(WIDTH, 0), (32, 1)])
@torch.inference_mode()
def test_captions_are_the_originals(kind: str, width: int, seed: int, tmp_path: Path, pixels: torch.Tensor) -> None:
    if "another width" in kind and width == WIDTH:
        pytest.skip("transformers reads 32 there")
    model = make(kind, tmp_path, width, seed)
    checkpoint = convert(tmp_path)
    tokens = torch.randint(3, V, (4, MOST), generator=torch.Generator().manual_seed(seed))
    same_logits(checkpoint.model, model, pixels, tokens)
    for beams in (1, 3):
        captions = model.generate(
            pixel_values=pixels,
            num_beams=beams,
            max_new_tokens=MOST,
            length_penalty=1.0,
            suppress_tokens=[PAD],  # transformers does not attend to a pad token that it wrote itself
            early_stopping="never" if beams > 1 else None,
        )
        rows = [row[1:].tolist() for row in captions]
        original = [row[: row.index(END)] if END in row else row for row in rows]
        config = GenerationConfig(beams=beams, max_tokens=MOST, length_penalty=1.0)
        for each in (checkpoint, prepare(checkpoint, "fp32")):
            memory = each.model.remember(each.model.encode_image(pixels))
            best = search(each.model.decoder, memory, each.config.text, config, rules=without_pad())
            assert [[t for t in group[0].tokens if t != END] for group in best] == original


def without_pad() -> Any:
    from captioner.generation.rules import Rules

    def process(log_probs: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        return log_probs.index_fill(1, torch.tensor([PAD]), -torch.inf)

    return Rules(processors=(process,))


@torch.inference_mode()
def test_it_is_saved_and_loaded(tmp_path: Path, pixels: torch.Tensor) -> None:
    """An untied head and a wider memory are saved too."""
    DECODERS["untied"] = ("TrOCRConfig", {**DECODERS["trocr"][1], "tie_word_embeddings": False})
    try:
        make("untied", tmp_path, WIDTH, 3)
    finally:
        del DECODERS["untied"]
    checkpoint, again = convert(tmp_path), load(tmp_path)
    tokens = torch.randint(3, V, (4, 1, MOST))
    assert checkpoint.config.decoder.head == "untied"
    assert torch.equal(again.model(tokens, pixels).logits, checkpoint.model(tokens, pixels).logits)
