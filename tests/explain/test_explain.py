"""Explanations: sums, shapes, the model's own probabilities, and attention that is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.errors import ImageError, UsageError
from captioner.explain.explain import Explanation, explain, read_again
from captioner.pipelines import CaptionPipeline

Make = Callable[..., Checkpoint]
GIVEN = "a red dog runs on the grass"


def aim(checkpoint: Checkpoint, *, row: float, column: float, gate: float, spread: float = 1e-4) -> None:
    """Point all local attention at one place, and set every gate to ``gate``, for any words and images."""
    for block in checkpoint.model.decoder.blocks:
        layer = block.cross_attn
        torch.nn.init.zeros_(layer.q_proj.weight)
        torch.nn.init.zeros_(layer.q_proj.bias)  # all patches alike to the global read
        for part, value in (
            (layer.focus.point, (row, column) * 2),
            (layer.focus.spread, None),
            (layer.read.gate, None),
        ):
            torch.nn.init.zeros_(part.weight)
            if value is not None:
                part.bias.data = torch.logit(torch.tensor(value))
        layer.focus.spread.bias.data.fill_(math.log(math.expm1(spread)))
        layer.read.gate.bias.data.fill_(math.log(gate / (1 - gate)))


@pytest.mark.parametrize(("pattern", "backbone"), [("M", "test_efficientnet"), ("GL", "test_vit"), ("M", "test_vit")])
def test_every_read_sums_to_one(make: Make, photo: Image.Image, pattern: str, backbone: str) -> None:
    checkpoint = make(pattern, backbone)
    found = explain(checkpoint, photo, caption=GIVEN)
    assert found.words == tuple(GIVEN.split())
    maps = [found.maps, found.global_maps, found.local_maps]
    for values in maps:
        assert values is not None
        assert values.shape == (7, *found.grid)
        assert values.min() >= 0
        np.testing.assert_allclose(values.sum((1, 2)), 1, atol=1e-6)
    for layer in found.layers:
        for weights in (layer.global_weights, layer.local_weights, layer.weights):
            if weights is not None:
                assert weights.shape[:2] == (2, len(found.tokens))
                np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    prefix = 1 if backbone == "test_vit" else 0
    assert (found.off_grid > 0).all() == bool(prefix)
    raw = np.concatenate([layer.weights for layer in found.layers]).mean(0)  # (T, S)
    start, end = found.spans[2]
    word = raw[start:end].mean(0)
    assert found.off_grid[2] == pytest.approx(word[:prefix].sum(), abs=1e-6)
    np.testing.assert_allclose(found.maps[2].ravel(), word[prefix:] / word[prefix:].sum(), atol=1e-6)


def test_a_known_aim_is_found(make: Make, photo: Image.Image) -> None:
    checkpoint = make()
    aim(checkpoint, row=1 / 6, column=5 / 6, gate=1e-6)  # the upper right of 3 x 3 patches
    found = explain(checkpoint, photo, caption=GIVEN)
    assert found.grid == (3, 3)
    assert found.global_maps is not None
    assert found.gates is not None
    np.testing.assert_allclose(found.maps[:, 0, 2], 1, atol=1e-4)
    np.testing.assert_allclose(found.global_maps, 1 / 9, atol=1e-6)
    np.testing.assert_allclose(found.entropies, 0, atol=1e-3)
    np.testing.assert_allclose(found.gates, 0, atol=1e-5)
    np.testing.assert_allclose(found.centres, [[1 / 6, 5 / 6]] * 7, atol=1e-6)
    np.testing.assert_allclose(found.spreads, 0.0201, atol=1e-6)
    aim(checkpoint, row=1 / 6, column=5 / 6, gate=0.25)
    found = explain(checkpoint, photo, caption=GIVEN)
    np.testing.assert_allclose(found.maps[:, 0, 2], 0.75 + 0.25 / 9, atol=1e-4)
    np.testing.assert_allclose(found.maps[:, 2, 0], 0.25 / 9, atol=1e-4)
    np.testing.assert_allclose(found.gates, 0.25, atol=1e-6)
    aim(checkpoint, row=1 / 6, column=5 / 6, gate=1 - 1e-6)
    np.testing.assert_allclose(explain(checkpoint, photo, caption=GIVEN).entropies, math.log2(9), atol=1e-4)


def test_centre_and_spread_are_those_of_all_gaussians_together(make: Make, photo: Image.Image) -> None:
    checkpoint = make()
    aim(checkpoint, row=0.25, column=0.5, gate=0.5, spread=0.08)
    for block in checkpoint.model.decoder.blocks:  # the second head looks lower
        block.cross_attn.focus.point.bias.data = torch.logit(torch.tensor((0.25, 0.5, 0.75, 0.5)))
    found = explain(checkpoint, photo, caption=GIVEN)
    np.testing.assert_allclose(found.centres, [[0.5, 0.5]] * 7, atol=1e-6)
    np.testing.assert_allclose(found.spreads, math.sqrt(0.1**2 + 0.25**2 / 2), atol=1e-6)


@pytest.mark.parametrize("pattern", ["G", "L"])
def test_one_kind_of_read_only(make: Make, photo: Image.Image, pattern: str) -> None:
    found = explain(make(pattern), photo, caption=GIVEN)
    missing = (found.global_maps is None, found.local_maps is None, found.gates is None, found.centres is None)
    assert missing == (pattern == "L", pattern == "G", True, pattern == "G")
    np.testing.assert_allclose(found.maps, found.global_maps if pattern == "G" else found.local_maps)


def test_its_words_and_probabilities_are_the_captions(make: Make, photo: Image.Image) -> None:
    pipe = CaptionPipeline(make())
    caption, found = pipe.caption(photo), pipe.explain(photo)
    assert found.caption == caption.text
    assert found.words == tuple(word.text for word in caption.words)
    np.testing.assert_allclose(found.probabilities, [word.probability for word in caption.words], rtol=1e-4)
    other = pipe.explain(photo, prefix="two people")
    assert other.caption.startswith("two people")


def test_a_given_caption_is_judged_as_score_judges_it(make: Make, photo: Image.Image) -> None:
    pipe = CaptionPipeline(make())
    tokens = pipe.checkpoint.tokenizer.encode(GIVEN)
    model = pipe.checkpoint.model
    found = pipe.explain(photo, GIVEN)
    with torch.no_grad():
        memory = model.remember(model.encode_image(_pixels(pipe.checkpoint, photo)))
        log_probs, _ = read_again(model.decoder, memory, [*tokens, 2], 1)
    assert np.log(found.probabilities).sum() == pytest.approx(log_probs[:-1].sum(), abs=1e-5)
    assert log_probs.sum() == pytest.approx(pipe.score(photo, GIVEN), abs=1e-4)


def test_a_word_of_several_tokens_is_one_word(make: Make, photo: Image.Image) -> None:
    found = explain(make(), photo, caption="a zyxw, dog")
    assert found.words == ("a", "zyxw,", "dog")
    start, end = found.spans[1]
    assert end - start > 2
    raw = np.concatenate([layer.weights for layer in found.layers]).mean(0)[start:end].mean(0)
    np.testing.assert_allclose(found.maps[1].ravel(), raw, atol=1e-6)
    assert found.gates is not None
    gates = np.concatenate([layer.gate for layer in found.layers if layer.gate is not None]).mean(0)
    assert found.gates[1] == pytest.approx(gates[start:end].mean())


def test_explaining_leaves_no_trace(make: Make, photo: Image.Image) -> None:
    pipe = CaptionPipeline(make())
    before = pipe.caption(photo)
    pipe.explain(photo)
    assert pipe.caption(photo) == before


def test_what_cannot_be_explained(make: Make, photo: Image.Image) -> None:
    pipe = CaptionPipeline(make())
    for caption, message in ((" . ", "is empty"), ("dog " * 17, "has 17 tokens, the model reads 16; cut it")):
        with pytest.raises(UsageError, match=message):
            pipe.explain(photo, caption)
    with pytest.raises(UsageError, match="beams has no effect on a given caption"):
        pipe.explain(photo, GIVEN, beams=3)
    for options, message in (
        ({"candidates": 3, "rerank": "matching"}, "has no matching head"),
        ({"name_sure_labels": 0.9}, "predicts no labels"),
        ({"label_weight": 0.2}, "predicts no labels; leave label_weight out"),
    ):
        with pytest.raises(UsageError, match=message):
            pipe.explain(photo, **options)
    with pytest.raises(ImageError, match="cannot read"):
        pipe.explain(b"no image")
    assert len(pipe.explain(photo, "dog " * 16).words) == 16


def test_save_knows_two_forms(make: Make, photo: Image.Image, tmp_path: object) -> None:
    found: Explanation = explain(make(), photo, caption=GIVEN)
    with pytest.raises(UsageError, match=r"x\.gif is neither \.html nor \.png"):
        found.save(f"{tmp_path}/x.gif")
    assert found.save(f"{tmp_path}/x.HTML").read_text().startswith("<!doctype html>")
    with Image.open(found.save(f"{tmp_path}/x.png")) as image:
        assert image.format == "PNG"


def _pixels(checkpoint: Checkpoint, photo: Image.Image) -> torch.Tensor:
    from captioner.data.transforms import preprocess

    return preprocess(photo, checkpoint.config.preprocess)[None]
