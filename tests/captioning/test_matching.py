"""The matching head on captions, independent of the other captions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from captioner.captioning import matching
from captioner.captioning.batches import generate
from captioner.captioning.matching import match_captions
from captioner.checkpoint import Checkpoint, load
from captioner.config import GenerationConfig, with_options
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import ConfigError, UsageError
from captioner.evaluation.evaluate import evaluate
from captioner.training.tasks import Data


@pytest.fixture
def knowing(taught: Path) -> Checkpoint:
    return load(taught)


def test_a_caption_is_judged_as_if_it_were_alone(
    knowing: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = knowing.model, knowing.tokenizer
    pixels = torch.stack([preprocess(open_image(s.path), knowing.config.preprocess) for s in data.train[:3]])
    ids = [tokenizer.encode(c) for s in data.train[:4] for c in s.captions]
    captions = [ids[:5], [], [*ids[3:8], list(range(3, 90))]]
    with torch.inference_mode():
        memory = model.remember(model.encode_image(pixels))
    found = match_captions(knowing, memory, captions)
    assert [len(row) for row in found] == [5, 0, 6]
    monkeypatch.setattr(matching, "LOGITS_AT_ONCE", 1)
    torch.testing.assert_close(match_captions(knowing, memory, captions), found, atol=1e-5, rtol=1e-5)
    for image, row in enumerate(captions):
        for caption, judged in zip(row, found[image], strict=True):
            part = memory.select(torch.tensor([image]))
            assert match_captions(knowing, part, [[caption]])[0][0] == pytest.approx(judged, abs=1e-5)
    assert match_captions(knowing, memory, [[], [], []]) == [[], [], []]


def test_true_captions_are_told_from_those_of_other_pictures(knowing: Checkpoint, data: Data) -> None:
    pixels = torch.stack([preprocess(open_image(s.path), knowing.config.preprocess) for s in data.train])
    ids = [knowing.tokenizer.encode(c) for s in data.train for c in s.captions]
    with torch.inference_mode():
        memory = knowing.model.remember(knowing.model.encode_image(pixels))
    table = match_captions(knowing, memory, [ids] * len(data.train))
    said = [c for s in data.train for c in s.captions]
    true = [
        p for s, row in zip(data.train, table, strict=True) for c, p in zip(said, row, strict=True) if c in s.captions
    ]
    false = [
        p
        for s, row in zip(data.train, table, strict=True)
        for c, p in zip(said, row, strict=True)
        if c not in s.captions
    ]
    assert all(0 <= p <= 1 for p in (*true, *false))
    assert sum(p > 0.5 for p in true) >= 0.8 * len(true)
    assert sum(p < 0.5 for p in false) >= 0.7 * len(false)  # some are true of other pictures too


@pytest.mark.parametrize(
    "options", [{"beams": 5, "candidates": 5}, {"candidates": 6, "temperature": 1.0}, {"beams": 4, "refine": 1}]
)
def test_candidates_in_the_order_of_their_matching(knowing: Checkpoint, data: Data, options: dict[str, float]) -> None:
    config = with_options(GenerationConfig(), {"candidates": 4, **options, "rerank": "matching"})
    plain = with_options(config, {"rerank": "score"})
    photos = [s.path for s in (*data.train[:3], *data.validation[:3])]
    other_order = 0
    for photo, ours, theirs in zip(
        photos, generate(knowing, photos, config), generate(knowing, photos, plain), strict=True
    ):
        assert isinstance(ours, list)
        assert isinstance(theirs, list)
        assert sorted(h.tokens for h in ours) == sorted(h.tokens for h in theirs)
        other_order += [h.tokens for h in ours] != [h.tokens for h in theirs]
        with torch.inference_mode():
            pixels = preprocess(open_image(photo), knowing.config.preprocess)[None]
            memory = knowing.model.remember(knowing.model.encode_image(pixels))
        judged = match_captions(knowing, memory, [[h.tokens for h in ours]])[0]
        assert all(a >= b - 1e-5 for a, b in pairwise(judged))
    assert other_order


def test_one_candidate_leaves_nothing_to_choose() -> None:
    with pytest.raises(ConfigError, match=r"^rerank matching needs at least 2 candidates, not 1"):
        GenerationConfig(rerank="matching")


def test_who_has_not_learnt_it_is_refused_before_a_photo_is_read(checkpoint: Checkpoint, data: Data) -> None:
    def photos() -> object:
        raise AssertionError("read")
        yield

    config = GenerationConfig(beams=2, candidates=2, rerank="matching")
    wanted = r"has no matching head, .*; add one with `captioner finetune --recipe multitask`$"
    with pytest.raises(UsageError, match=wanted):
        next(generate(checkpoint, photos(), config))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=wanted):
        evaluate(checkpoint, data.train, config)
