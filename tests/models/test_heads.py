"""Heads: embeddings of images and texts, hard negatives, and one pass for all objectives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captioner.config import CaptionerConfig, DecoderConfig, HeadsConfig, PreprocessConfig, TextConfig, VisionConfig
from captioner.inference.prepared import _cast, prepare_model
from captioner.models.captioner import Captioner
from captioner.models.decoder import Decoder
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.models.heads import SLOWNESS, append_eos, end_states, pad_and_close
from captioner.models.joint import JointQuery, caption_keys, hard_negatives, own_captions, owners

TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2)


def make(heads: HeadsConfig | None) -> Captioner:
    torch.manual_seed(0)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_vit"),
        decoder=DecoderConfig(vocab_size=11, context=8, width=16, layers=2, heads=2, cross_pattern="M"),
        text=TEXT,
        preprocess=PreprocessConfig(size=32),
        heads=heads,
    )
    return Captioner(config).eval()


@pytest.fixture(params=["attention", "mean"])
def model(request: pytest.FixtureRequest) -> Captioner:
    return make(HeadsConfig(width=6, pooling=request.param, tags=("dog", "snow")))


def test_a_caption_is_closed_by_its_end_and_a_full_one_by_its_last_word() -> None:
    tokens = torch.tensor([[[0, 5, 6, 2], [0, 5, 6, 7], [0, 2, 2, 2]]])
    lengths = torch.tensor([[3, 4, 1]])
    with_ends, ends = append_eos(tokens, lengths, 1, context=8)
    assert with_ends[0, 0, :4].tolist() == [0, 5, 6, 1]
    assert with_ends[0, 1].tolist() == [0, 5, 6, 7, 1]
    assert with_ends[0, 2, :2].tolist() == [0, 1]
    assert ends.tolist() == [[3, 4, 1]]
    with_ends, ends = append_eos(tokens, lengths, 1, context=4)
    assert with_ends[0, 1].tolist() == [0, 5, 6, 7]
    assert ends.tolist() == [[3, 3, 1]]
    listed, places = pad_and_close([[5, 6], [5, 6, 7], [], list(range(3, 11))], TEXT, context=4)
    assert [row[: place + 1].tolist() for row, place in zip(listed, places, strict=True)] == [
        [0, 5, 6, 1],
        [0, 5, 6, 7],
        [0, 1],
        [0, 3, 4, 5],
    ]
    assert pad_and_close([], TEXT, context=4)[1].shape == (0,)
    assert pad_and_close([[5], [6]], TEXT, context=4, starts=[8, 9])[0][:, :2].tolist() == [[8, 5], [9, 6]]


def test_what_stands_behind_a_caption_plays_no_part(model: Captioner) -> None:
    one, place = pad_and_close([[5, 6]], TEXT, 8)
    among, places = pad_and_close([[5, 6], [3, 4, 5, 6]], TEXT, 8)
    torch.testing.assert_close(
        end_states(model.decoder, one, place)[0], end_states(model.decoder, among, places)[0], atol=1e-5, rtol=1e-5
    )


def test_directions_have_length_one_and_know_their_input(model: Captioner) -> None:
    assert model.heads is not None
    with torch.inference_mode():
        images = model.heads.of_images(model.heads.pooled(model.encode_image(torch.randn(3, 3, 32, 32))))
        texts = model.heads.of_texts(end_states(model.decoder, *pad_and_close([[5], [6, 7]], TEXT, 8)))
    assert images.shape == (3, 6)
    assert texts.shape == (2, 6)
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(2))
    assert not torch.allclose(images[0], images[1], atol=1e-4)
    assert not torch.allclose(texts[0], texts[1], atol=1e-4)
    assert model.heads.logit_scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.heads._steepness.fill_(SLOWNESS * 9)
    assert model.heads.logit_scale.item() == 100


def test_captions_that_say_the_same_share_a_key() -> None:
    tokens = torch.tensor([[[0, 5, 6, 2], [0, 6, 5, 2]], [[0, 5, 6, 9], [0, 5, 2, 2]], [[0, 5, 6, 1], [2, 2, 2, 2]]])
    keys = caption_keys(tokens, torch.tensor([[3, 3], [3, 2], [4, 0]]))
    assert keys[0, 0] == keys[1, 0]  # but for what is behind them
    assert len(set(keys.flatten().tolist())) == 5
    many = torch.randint(3, 11, (400, 1, 6), generator=torch.Generator().manual_seed(0))
    found = caption_keys(many, torch.full((400, 1), 6)).flatten().tolist()
    assert len(set(found)) == len({tuple(row) for row in many.flatten(1).tolist()})


def test_own_captions_are_those_of_the_image_and_the_same_words_elsewhere() -> None:
    keys = torch.tensor([7, 8, 9, 7, 5, 0])
    real = torch.tensor([True, True, True, True, True, False])
    own = own_captions(keys, torch.tensor([0, 0, 1, 1, 2, 2]), real, 3)
    assert own.int().tolist() == [[1, 1, 0, 1, 0, 0], [1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]]


def drawn(similarity: Tensor, own: Tensor, real: Tensor, count: int, times: int) -> list[tuple[int, int]]:
    found = []
    for seed in range(times):
        torch.manual_seed(seed)
        image, text, valid = hard_negatives(similarity, own, real, count)
        found += list(zip(image[valid].tolist(), text[valid].tolist(), strict=True))
    return found


def test_hard_negatives_are_never_own_and_every_other_one_can_be() -> None:
    real = torch.tensor([[True, True], [True, True], [True, False]])
    keys = torch.tensor([1, 2, 3, 1, 4, 0])  # the second image has a caption of the first
    own = own_captions(keys, torch.tensor([0, 0, 1, 1, 2, 2]), real.flatten(), 3)
    similarity = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    found = drawn(similarity, own, real, 2, 300)
    assert not {(b, n) for b, n in found if own[b, n] or n == 5}
    assert set(found) == {(b, n) for b in range(3) for n in range(5) if not own[b, n]}


def test_the_draw_of_captions_is_a_softmax() -> None:
    similarity = torch.tensor([[9.0, 0.0, 1.0, 2.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0], [0.0] * 4])
    own, real = torch.eye(4, dtype=torch.bool), torch.ones(4, 1, dtype=torch.bool)
    counts = torch.zeros(4)
    for seed in range(2000):
        torch.manual_seed(seed)
        image, text, _ = hard_negatives(similarity, own, real, 1)
        assert image[:4].tolist() == [0, 1, 2, 3]
        assert text[4:].sort().values.tolist() == [0, 1, 2, 3]
        counts[text[0]] += 1
    torch.testing.assert_close(counts[1:] / 2000, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.04, rtol=0)
    assert counts[0] == 0


def test_an_image_alone_has_no_negatives() -> None:
    image, text, valid = hard_negatives(torch.zeros(1, 2), torch.ones(1, 2).bool(), torch.ones(1, 2).bool(), 3)
    assert len(image) == len(text) == len(valid)
    assert not valid.any()


def test_one_pass_says_what_each_head_says_alone(model: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.tensor([[[0, 5, 6, 2], [0, 6, 5, 7]], [[0, 5, 9, 2], [2, 2, 2, 2]]])
    lengths, pixels = torch.tensor([[3, 4], [3, 0]]), torch.randn(2, 3, 32, 32)
    assert model.heads is not None
    pairs = torch.tensor([0, 1]), torch.tensor([2, 1]), torch.tensor([True, True])
    monkeypatch.setattr("captioner.models.joint.hard_negatives", lambda *args: pairs)
    with torch.inference_mode():
        outputs = model(tokens, pixels, JointQuery(lengths=lengths, negatives=1))
        found = outputs.joint
        said = torch.arange(4) < lengths[..., None]  # behind its caption each pass reads what it likes
        torch.testing.assert_close(outputs.logits[said], model(tokens, pixels).logits[said], atol=1e-5, rtol=1e-5)
        encoded = model.encode_image(pixels)
        pooled, memory = model.heads.pooled(encoded), model.remember(encoded)
        torch.testing.assert_close(found.images, model.heads.of_images(pooled))
        torch.testing.assert_close(found.tags, model.heads.tag(pooled))  # type: ignore[misc]
        own = [[5, 6], [6, 5, 7], [5, 9]]
        texts, ends = pad_and_close(own, TEXT, 8)
        alone = model.heads.of_texts(end_states(model.decoder, texts, ends))
        torch.testing.assert_close(found.texts.flatten(0, 1)[:3], alone, atol=1e-5, rtol=1e-5)
        for odds, caption, image in [
            (found.true[0, 0], 0, 0),
            (found.true[0, 1], 1, 0),
            (found.true[1, 0], 2, 1),
            (found.false[0], 2, 0),
            (found.false[1], 1, 1),
        ]:
            part = memory.select(torch.tensor([image]))
            state = end_states(model.decoder, texts[caption : caption + 1], ends[caption : caption + 1], part)
            torch.testing.assert_close(odds, model.heads.matches(state)[0], atol=1e-5, rtol=1e-5)


def test_every_head_reaches_every_part_that_it_reads(model: Captioner) -> None:
    tokens = torch.randint(3, 11, (3, 2, 5), generator=torch.Generator().manual_seed(0))
    found = model(tokens, torch.randn(3, 3, 32, 32), JointQuery(lengths=torch.full((3, 2), 5), negatives=2)).joint
    names = dict(model.named_parameters())
    sums = {
        "contrastive": (found.images @ found.texts.flatten(0, 1).T * found.logit_scale).square().sum(),
        "matching": found.true.square().sum() + found.false.square().sum(),
        "tags": found.tags.square().sum(),
    }
    for name, value in sums.items():
        gradients = torch.autograd.grad(value, list(names.values()), retain_graph=True, allow_unused=True)
        reached = {n for n, g in zip(names, gradients, strict=True) if g is not None and bool(g.abs().sum() > 0)}
        assert "vision.proj.weight" in reached, name
        assert ("decoder.blocks.0.cross_attn.kv_proj.weight" in reached) == (name == "matching")
        assert ("decoder.blocks.0.self_attn.qkv_proj.weight" in reached) == (name != "tags")
        own = {"contrastive": "heads.text_proj.weight", "matching": "heads.match.weight", "tags": "heads.tag.weight"}
        assert {n for n in own.values() if n in reached} == {own[name]}
        assert "heads._log_variances" not in reached


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_heads_work_in_every_precision(precision: str) -> None:
    torch.manual_seed(3)
    whole = make(HeadsConfig(width=6))
    prepared = prepare_model(whole, precision)  # type: ignore[arg-type]
    pixels, texts = torch.randn(3, 3, 32, 32), pad_and_close([[5], [6, 7]], TEXT, 8)
    close = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.15}[precision]
    with torch.inference_mode():
        for of in (images_of, lambda model, _: model.heads.of_texts(end_states(model.decoder, *texts))):
            torch.testing.assert_close(of(prepared, pixels), of(whole, pixels), atol=close, rtol=0)
        assert of(prepared, pixels).dtype == torch.float32


def images_of(model: EncoderDecoder, pixels: Tensor) -> Tensor:
    assert model.heads is not None
    return model.heads.of_images(model.heads.pooled(model.encode_image(pixels)))


def test_a_cast_model_keeps_its_heads(make_decoder: Callable[..., Decoder]) -> None:
    """The CPU simulates a GPU in bf16."""
    model, texts = make(HeadsConfig(width=6)), pad_and_close([[5], [6, 7]], TEXT, 8)
    pixels = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        before = images_of(model, pixels), model.heads.of_texts(end_states(model.decoder, *texts))  # type: ignore[union-attr]
        _cast(model)
        after = images_of(model, pixels), model.heads.of_texts(end_states(model.decoder, *texts))  # type: ignore[union-attr]
    for one, other in zip(before, after, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.1, rtol=0)


def test_words_are_asked_without_owners() -> None:
    assert owners(torch.zeros(3, 2, 5)).tolist() == [0, 0, 1, 1, 2, 2]
