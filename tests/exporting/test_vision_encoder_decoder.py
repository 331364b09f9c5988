"""Captioners that are a ``VisionEncoderDecoderModel``: transformers opens them and gives the same logits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.captioning.batches import caption_pixels
from captioner.checkpoint import Checkpoint, load
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    VisionConfig,
)
from captioner.errors import UsageError
from captioner.exporting import vision_encoder_decoder as exporting
from captioner.generation.search import search
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
Make = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def make() -> Make:
    def make(backbone: str, *, size: int = 32, width: int = 24, args: Any = None, **vision: Any) -> Checkpoint:
        tokenizer = train_tokenizer(["a dog on a beach"], 280)
        changes = {name: vision.pop(name) for name in [*vision] if name in ("aspect", "zoom", "interpolation")}
        decoder = {name: vision.pop(name) for name in [*vision] if name in DecoderConfig.__dataclass_fields__}
        config = CaptionerConfig(
            vision=VisionConfig(
                backbone=backbone, **{"norm": False, "positions": False, "backbone_args": args or {}, **vision}
            ),
            decoder=DecoderConfig(
                **{
                    "vocab_size": tokenizer.vocab_size,
                    "context": 20,
                    "width": width,
                    "layers": 2,
                    "heads": 2,
                    **decoder,
                }
            ),
            text=tokenizer.config,
            preprocess=PreprocessConfig(size=size, **changes),
        )
        torch.manual_seed(1)
        model = Captioner(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("decoder.", "vision.proj", "vision.backbone.")):
                    scale = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                    parameter.copy_(torch.randn_like(parameter) * 0.2 + scale)
        return Checkpoint(model, tokenizer, GenerationConfig(max_tokens=10))

    return make


@pytest.mark.parametrize(
    ("backbone", "changes", "kind"),
    [
        ("vit_tiny_patch16_224", {"args": VIT, "norm_eps": 1e-12}, "vit"),
        ("vit_tiny_patch16_224", {"args": VIT, "width": 32}, "vit"),
        ("vit_tiny_patch16_224", {"args": {**VIT, "qkv_bias": False}, "project": False}, "vit"),
        ("deit_tiny_distilled_patch16_224", {"args": VIT, "width": 16, "mlp_width": 40}, "deit"),
        ("vit_tiny_patch16_224", {"args": {**VIT, "init_values": 0.5}, "width": 32}, "timm_wrapper"),
        ("test_vit", {"size": 160, "width": 32}, "vit"),
    ],
)
def test_transformers_gives_the_same_logits(
    backbone: str, changes: dict[str, Any], kind: str, make: Make, tmp_path: Path
) -> None:
    import transformers

    checkpoint = make(backbone, **changes)
    assert exporting.obstacle(checkpoint) is None
    exporting.write(checkpoint, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["encoder"]["model_type"] == kind
    model, info = transformers.VisionEncoderDecoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    size = checkpoint.config.preprocess.size
    pixels, tokens = torch.randn(2, 3, size, size), torch.randint(3, checkpoint.config.decoder.vocab_size, (2, 6))
    with torch.inference_mode():
        wanted = checkpoint.model(tokens[:, None], pixels).logits[:, 0]
        found = model(pixel_values=pixels, decoder_input_ids=tokens).logits
    assert wanted.std() > 0.3
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
    ours = search(checkpoint.model.decoder, memory, checkpoint.config.text, GenerationConfig(max_tokens=10))
    rows = model.generate(pixel_values=pixels).tolist()
    for (best,), row in zip(ours, rows, strict=True):
        assert tuple(row[1 : 1 + len(best.tokens)]) == best.tokens
    if kind != "timm_wrapper":
        back = load(tmp_path)
        with torch.inference_mode():
            again = back.model(tokens[:, None], pixels).logits[:, 0]
        torch.testing.assert_close(again, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"self_pattern": "GM"}, "mixed attention"),
        ({"cross_gate": True}, "decoder.cross_gate True"),
        ({"head_width": 8}, "decoder.head_width 8"),
        ({"norm": "post"}, "decoder.norm post"),
        ({"positions": True}, "norm or positions"),
        ({"aspect": "pad"}, "padding of photos"),
    ],
)
def test_names_what_it_cannot_express(changes: dict[str, Any], reason: str, make: Make) -> None:
    if "norm" in changes:
        checkpoint = make("vit_tiny_patch16_224", args=VIT)
        config = dataclasses.replace(checkpoint.model.config.decoder, norm="post")
        checkpoint.model.config = dataclasses.replace(checkpoint.model.config, decoder=config)
    else:
        checkpoint = make("vit_tiny_patch16_224", args=VIT, **changes)
    assert (exporting.obstacle(checkpoint) or "").startswith(reason)


@pytest.mark.parametrize(("backbone", "size"), [("test_efficientnet", 64), ("pit_ti_224", 224)])
def test_features_that_transformers_would_not_give(backbone: str, size: int, make: Make) -> None:
    """A map is no sequence, and timm gives the class token alone of a PiT."""
    assert exporting.obstacle(make(backbone, size=size)) == f"backbone {backbone}"


def test_decoding_defaults(make: Make, tmp_path: Path) -> None:
    """A default language, a minimum, and a maximum above the context arrive in transformers; a prefix is refused."""
    import transformers

    checkpoint = make("vit_tiny_patch16_224", args=VIT)
    text = dataclasses.replace(checkpoint.config.text, languages={"en": checkpoint.config.text.bos_id, "zh": 269})
    checkpoint.model.config = dataclasses.replace(checkpoint.config, text=text)
    checkpoint.generation = GenerationConfig(language="zh", min_tokens=9, max_tokens=40, beams=1)
    exporting.write(checkpoint, tmp_path)
    model = transformers.VisionEncoderDecoderModel.from_pretrained(tmp_path)
    assert (model.generation_config.min_length, model.generation_config.max_length) == (9, 20)
    pixels = torch.randn(2, 3, 32, 32)
    ours, _ = caption_pixels(checkpoint, list(pixels), checkpoint.generation)
    for (best,), row in zip(ours, model.generate(pixel_values=pixels).tolist(), strict=True):
        assert row[0] == 269
        assert tuple(row[1 : 1 + len(best.tokens)]) == best.tokens
    rules = dataclasses.replace(checkpoint.generation.rules, prefix="a dog")
    checkpoint.generation = dataclasses.replace(checkpoint.generation, rules=rules)
    with pytest.raises(UsageError, match=r"^the default prefix 'a dog' cannot be exported to transformers; save the"):
        exporting.write(checkpoint, tmp_path)


@pytest.mark.parametrize(
    "changes", [{}, {"aspect": "crop"}, {"zoom": 1.25}, {"aspect": "crop", "zoom": 1.25, "interpolation": "bilinear"}]
)
def test_processor_is_read_back(changes: dict[str, Any]) -> None:
    from captioner.checkpoint.hugging_face.encoders.preprocess import processor_config

    config = PreprocessConfig(size=32, **changes)
    assert processor_config(exporting.processor_settings(config), "test") == config


def test_tokenizer_reads_and_writes_as_ours(make: Make, tmp_path: Path) -> None:
    import transformers

    checkpoint = make("vit_tiny_patch16_224", args=VIT)
    exporting.write(checkpoint, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("A dog  on a beach .").input_ids
    assert ids == [*checkpoint.tokenizer.encode("A dog  on a beach ."), checkpoint.config.text.eos_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a dog on a beach"
    assert tokenizer.pad_token_id == checkpoint.config.text.pad_id
