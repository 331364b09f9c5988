"""ONNX exports: the layout of transformers.js, and the tokens of torch's fp32 from ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx

import captioner
from captioner.captioning.batches import caption_pixels
from captioner.checkpoint import Checkpoint
from captioner.config import PreprocessConfig, WordRules, with_options
from captioner.errors import UsageError
from captioner.exporting import export
from captioner.exporting.onnx.settings import generation_settings, preprocessor_settings
from captioner.inference import prepare
from captioner.inference.onnx.layout import cache_names
from captioner.inference.onnx.opening import open_export

Make = Callable[..., Checkpoint]


@pytest.mark.parametrize(
    "kind", ["mixed", "blip", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("local", "trocr"))]
)
def test_tokens_of_every_decoder(kind: str, tiny: Make, tmp_path: Path) -> None:
    """Greedy search, beams and sampling give the tokens and the scores of torch, for photos in one batch."""
    checkpoint = tiny(kind, labels=kind in ("mixed", "trocr"))
    exported = open_export(export(checkpoint, tmp_path / "out", to="onnx"), "fp32")
    pixels = list(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    expected = prepare(checkpoint, "fp32")
    written = set()
    for options in ({"beams": 1}, {"beams": 3, "no_repeat_ngram": 2}, {"temperature": 1.5, "candidates": 2}):
        settings = with_options(checkpoint.generation, {"language": "zh", **options})
        ours, _ = caption_pixels(expected, pixels, settings)
        theirs, _ = caption_pixels(exported, pixels, settings)
        assert [[h.tokens for h in group] for group in theirs] == [[h.tokens for h in group] for group in ours]
        for one, other in zip(ours, theirs, strict=True):
            assert [h.score for h in other] == pytest.approx([h.score for h in one], abs=1e-3)
        written |= {h.tokens for group in ours for h in group}
    assert len(written) > 4  # captions that differ from one another, or the comparison says little


def test_layout(tiny: Make, tmp_path: Path) -> None:
    """transformers.js feeds only what a graph declares, and makes the empty cache from its numbers."""
    out = export(tiny("mixed", labels=True), tmp_path / "out", to="onnx")
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["decoder"]["model_type"]) == ("vision-encoder-decoder", "gpt2")
    assert config["decoder"]["n_embd"] // config["decoder"]["n_head"] == 8
    for suffix in ("", "_quantized"):
        encoder, decoder = (
            _sizes(out / "onnx" / f"{name}{suffix}.onnx") for name in ("encoder_model", "decoder_model_merged")
        )
        assert encoder["pixel_values"] == ["batch_size", 3, 64, 64]
        assert encoder["last_hidden_state"] == [
            "batch_size",
            6,
            2 * 2 * 16,
        ]  # two labels, four patches; keys and values of 2 heads of 8
        assert decoder["input_ids"] == ["batch_size", "sequence_length"]
        for name in cache_names(2, "past_key_values"):
            assert decoder[name] == ["batch_size", 2, "past_sequence_length", 8]
        outputs = {"logits", *cache_names(2, "present")}
        assert decoder.keys() == {"input_ids", "encoder_hidden_states", *cache_names(2, "past_key_values"), *outputs}
        assert decoder["logits"][:2] == ["batch_size", "sequence_length"]


def _sizes(path: Path) -> dict[str, list[object]]:
    graph = onnx.load(path).graph
    return {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }


def test_settings_of_the_greedy_search(tiny: Make) -> None:
    checkpoint = tiny()
    plain = generation_settings(checkpoint)
    assert plain == {
        "decoder_start_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "max_length": 11,
    }
    checkpoint.generation = replace(
        checkpoint.generation,
        min_tokens=3,
        language="zh",
        max_tokens=99,
        rules=WordRules(prefix="ba", no_repeat_ngram=2),
    )
    ruled = generation_settings(checkpoint)
    [begun] = ruled["decoder_start_token_id"]
    assert begun == [3, *checkpoint.tokenizer.encode("ba")]
    assert len(begun) > 1
    assert (ruled["min_length"], ruled["max_length"], ruled["no_repeat_ngram_size"]) == (3, 16, 2)


def test_settings_of_the_pixels() -> None:
    squashed = preprocessor_settings(PreprocessConfig(size=64, mean=(0.1, 0.2, 0.3)))
    assert squashed["size"] == {"height": 64, "width": 64}
    assert (squashed["resample"], squashed["image_mean"]) == (3, [0.1, 0.2, 0.3])
    assert "do_center_crop" not in squashed
    cropped = preprocessor_settings(PreprocessConfig(size=64, aspect="crop", zoom=1.25, interpolation="bilinear"))
    assert cropped["size"] == {"shortest_edge": 80}
    assert (cropped["resample"], cropped["crop_size"]) == (2, {"height": 64, "width": 64})


def test_what_the_layout_cannot_express(tiny: Make, tmp_path: Path) -> None:
    padded = tiny(preprocess=PreprocessConfig(size=64, aspect="pad"))
    with pytest.raises(UsageError, match=r"preprocess.aspect pad cannot be exported to ONNX: .*; choose"):
        captioner.export(padded, tmp_path / "out", to="onnx")
    asking = tiny("blip")
    encoder = replace(asking.config.decoder, head="none", causal=False)
    config = replace(asking.config, question=encoder, text=replace(asking.config.text, question_id=4))
    asking.model.config = config
    with pytest.raises(UsageError, match=r"answers questions cannot be exported to ONNX: .*; export one that captions"):
        captioner.export(asking, tmp_path / "out", to="onnx")
    assert not any(tmp_path.iterdir())
