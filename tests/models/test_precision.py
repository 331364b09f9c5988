"""A model prepared for captioning computes in its precision, and a caption still depends on its image alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from captioner.checkpoint import Checkpoint, load
from captioner.data.sources import read_splits
from captioner.layers.linears import PackedLinear, Precision
from captioner.models import precision as precision_room
from captioner.models.precision import for_inference
from captioner.pipelines import CaptionPipeline

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def features(checkpoint: Checkpoint, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return checkpoint.model.vision.features(pixels).values


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_stay_fp32_and_the_rest_is_packed(precision: Precision, checkpoint: Checkpoint) -> None:
    decoder = for_inference(checkpoint.model, precision).decoder
    packed = {name: layer.precision for name, layer in decoder.named_modules() if isinstance(layer, PackedLinear)}
    assert packed.pop("lm_head") == "fp32"
    assert set(packed.values()) == {precision}
    assert sum(name.endswith(("fc1", "fc2", "qkv_proj", "kv_proj")) for name in packed) == 4 * len(decoder.blocks)
    assert not any("gate" in name or "focus" in name for name in packed)


@pytest.mark.parametrize("able", [True, False])
def test_a_convolutional_backbone_is_fp16_where_the_cpu_can(
    able: bool, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_room, "fp16_convolves", lambda: able)
    pixels = torch.randn(2, 3, 64, 64)
    wanted = features(checkpoint, pixels)
    vision = for_inference(checkpoint.model, "bf16").vision
    assert {p.dtype for p in vision.backbone.parameters()} == {torch.float16 if able else torch.float32}
    found = features(checkpoint, pixels)
    assert found.dtype == torch.float32
    largest = wanted.abs().max()
    assert (found - wanted).abs().max() < 0.02 * largest
    assert ((found - wanted).abs().max() > 1e-5 * largest) == able


def test_what_overflows_in_fp16_stays_fp32(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_room, "fp16_convolves", lambda: True)
    vision = checkpoint.model.vision
    with torch.no_grad():
        last = [module for module in vision.backbone.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        last.weight *= 1e6
        last.bias += 1e6
    pixels = torch.randn(2, 3, 64, 64)
    wanted = features(checkpoint, pixels)
    for_inference(checkpoint.model, "int8")
    assert {p.dtype for p in vision.backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(features(checkpoint, pixels), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("beams", [1, 5])
def test_neither_batch_size_nor_order_changes_a_caption_of_200_photos(precision: Precision, beams: int) -> None:
    """Nor does padding: images of a batch end at different lengths, and the last batch is filled less.

    Sums of another order differ in their last bit, so two captions of one score may change places; in bf16 and int8 a
    number near a half may round the other way. Captions of a clear score must not change at all.
    """
    data = Path(os.environ.get("CAPTIONER_DATA", Path(__file__).parents[2].parent / "shared")) / "flickr8k"
    if not data.exists():
        pytest.skip(f"no photos at {data}; set CAPTIONER_DATA")
    photos = [sample.path for sample in read_splits(data).split("dev")[:200]]
    checkpoint = load()
    for_inference(checkpoint.model, precision)
    pipe = CaptionPipeline(checkpoint)
    together = [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=16)]
    others = {
        "alone": [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=1)],
        "in batches of 33": [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=33)],
        "backwards": [caption.text for caption in pipe.caption(photos[::-1], beams=beams, batch_size=16)][::-1],
    }
    for name, captions in others.items():
        changed = [(a, b) for a, b in zip(together, captions, strict=True) if a != b]
        assert not changed, f"{len(changed)} captions differ {name}"
