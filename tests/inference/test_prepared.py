"""A model prepared for captioning computes in its precision, and a caption still depends only on its image."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint import Checkpoint, load
from captioner.data.sources import read_splits
from captioner.inference import decoder as decoder_room
from captioner.inference import prepare
from captioner.inference.decoder import PreparedDecoder
from captioner.inference.linears import PackedHead, PackedLinear, Precision
from captioner.inference.prepared import Prepared, _cast, prepare_model
from captioner.models.captioner import Captioner
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.native.library import library
from captioner.pipelines import CaptionPipeline

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def features(model: EncoderDecoder, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.vision.features(pixels).values


def decoder_of(model: Prepared) -> PreparedDecoder:
    assert isinstance(model.decoder, PreparedDecoder)
    return model.decoder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_decoder_is_packed_but_for_what_decides(precision: Precision, checkpoint: Checkpoint) -> None:
    decoder = decoder_of(prepare_model(checkpoint.model, precision))
    assert decoder.draft is None  # only large decoders get a draft
    assert isinstance(decoder.lm_head, PackedHead if precision == "int8" else PackedLinear)
    assert decoder.lm_head.precision == ("int8" if precision == "int8" else "fp32")
    blocks = {
        name: layer.precision for name, layer in decoder.blocks.named_modules() if isinstance(layer, PackedLinear)
    }
    deciding = {name for name in blocks if "gate" in name or "focus" in name}
    assert deciding
    assert {blocks.pop(name) for name in deciding} == {"fp32"}
    assert set(blocks.values()) == {precision}
    assert sum(name.endswith(("fc1", "fc2", "qkv_proj", "kv_proj")) for name in blocks) == 4 * len(decoder.blocks)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_convolutional_backbone_stays_fp32(precision: Precision, checkpoint: Checkpoint) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    wanted = features(checkpoint.model, pixels)
    model = prepare_model(checkpoint.model, precision)
    assert {p.dtype for p in model.vision.backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(features(model, pixels), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_draft_is_the_decoder_in_int8_and_shares_the_rest(
    precision: Precision, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_room, "MUCH", 1)
    decoder = decoder_of(prepare_model(checkpoint.model, precision))
    if precision != "fp32" or library() is None:
        assert decoder.draft is None
        return
    draft = decoder.draft
    assert draft is not None
    packed = {name: layer.precision for name, layer in draft.named_modules() if isinstance(layer, PackedLinear)}
    assert {kind for name, kind in packed.items() if "gate" not in name and "focus" not in name} == {"int8"}
    own = dict(decoder.named_parameters(remove_duplicate=False))
    assert all(parameter is own[name.removeprefix("draft.")] for name, parameter in own.items())
    tokens, encoded = torch.tensor([[1, 5, 9]]), checkpoint.model.encode_image(torch.randn(1, 3, 64, 64))
    memory = decoder.remember(encoded)
    with torch.inference_mode():
        wanted, found = decoder(tokens, memory), draft(tokens, memory)
    assert 0 < (found - wanted).abs().max() < 0.2 * wanted.std()


@pytest.mark.parametrize("cross_gate", [False, True])
def test_bf16_of_a_gpu_keeps_what_decides(cross_gate: bool, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    model = Captioner(replace(config, decoder=replace(config.decoder, cross_gate=cross_gate))).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    cast = copy.deepcopy(model)
    _cast(cast)
    state, names = cast.state_dict(), {}
    for name, value in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        names[name] = name if name in state else f"{layer}.layer.{part}"
        exact = any(word in name for word in ("gate", "focus", "final_norm", "lm_head"))
        assert torch.equal(state[names[name]], value) if exact else state[names[name]].dtype != torch.float32
    assert any("focus" in name for name in names)
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.tensor([[[1, 5, 9]], [[1, 7, 8]]])
    with torch.no_grad():
        wanted, found = model(tokens, pixels).logits, cast(tokens, pixels).logits
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < 0.2 * wanted.std()


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("beams", [1, 5])
def test_neither_batch_size_nor_order_changes_a_caption_of_many_photos(precision: Precision, beams: int) -> None:
    """Padding has no effect either: captions of a batch end at different lengths, and the last batch is smaller.

    Sums in another order differ in their last bit, so two captions with equal scores may change places; in bf16 and
    int8 a number near a half may round the other way. Captions with a clear score must not change at all.
    """
    data = Path(os.environ.get("CAPTIONER_DATA", Path(__file__).parents[2].parent / "shared")) / "flickr8k"
    if not data.exists():
        pytest.skip(f"no photos at {data}; set CAPTIONER_DATA")
    slow = precision == "bf16" and not getattr(torch.cpu, "_is_amx_tile_supported", bool)()  # a second a photo
    photos = [sample.path for sample in read_splits(data).split("dev")[: 16 if slow else 50]]
    pipe = CaptionPipeline(prepare(load(), precision, keep=False))
    together = [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=16)]
    others = {
        "alone": [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=1)],
        "in batches of 33": [caption.text for caption in pipe.caption(photos, beams=beams, batch_size=33)],
        "backwards": [caption.text for caption in pipe.caption(photos[::-1], beams=beams, batch_size=16)][::-1],
    }
    for name, captions in others.items():
        changed = [(a, b) for a, b in zip(together, captions, strict=True) if a != b]
        assert not changed, f"{len(changed)} captions differ {name}"
