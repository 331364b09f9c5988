"""Searches: the best caption if all can be enumerated, exact scores, and independence of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from captioner.config import GenerationConfig, TextConfig
from captioner.generation.beam import beam_search
from captioner.generation.search import search
from captioner.generation.step import Start, Writing
from captioner.models.decoder import Decoder, ImageMemory

from ..reference import exhaustive_search, plain_beam_search
from .conftest import TEXT

Make = Callable[..., tuple[Decoder, ImageMemory]]
SEEDS = range(4)


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_full_width_finds_what_trying_all_finds(seed: int, penalty: float, make: Make) -> None:
    decoder, memory = make(seed, images=1, vocab_size=5)
    most = 4
    everything = exhaustive_search.all_captions(decoder, memory, bos=TEXT.bos_id, eos=TEXT.eos_id, most=most)
    assert len(everything) == 1 + 4 + 16 + 64 + 256
    wanted = sorted(everything, key=lambda c: -c.log_prob / c.length**penalty)
    config = GenerationConfig(beams=len(everything), max_tokens=most, length_penalty=penalty)
    found = search(decoder, memory, TEXT, config)[0]
    assert len(found) == len(everything)
    assert {h.tokens for h in found} == {c.tokens for c in wanted}
    assert found[0].tokens == wanted[0].tokens
    wanted_scores = [c.log_prob / c.length**penalty for c in wanted]
    assert [h.score for h in found] == pytest.approx(wanted_scores, abs=1e-4)


@pytest.mark.parametrize(("beams", "penalty"), [(2, -0.5), (2, 0.0), (3, 0.0), (3, 1.0), (2, 2.0), (3, 2.0)])
def test_a_beam_is_the_plain_one(beams: int, penalty: float, make: Make) -> None:
    """It never ends too early, and never runs out of captions to extend."""
    for seed in range(5):
        decoder, memory = make(seed, images=3, vocab_size=6, context=10)
        config = GenerationConfig(beams=beams, max_tokens=9, length_penalty=penalty)
        for image, found in enumerate(search(decoder, memory, TEXT, config)):
            alone = memory.select(torch.tensor([image]))
            wanted = plain_beam_search.beam_search(
                decoder, alone, bos=TEXT.bos_id, eos=TEXT.eos_id, beams=beams, most=9, penalty=penalty
            )
            assert [h.tokens for h in found] == [tokens for tokens, _ in wanted]
            assert [h.score for h in found] == pytest.approx([score for _, score in wanted], abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_beam_is_greedy(seed: int, make: Make) -> None:
    decoder, memory = make(seed)
    config = GenerationConfig(beams=1, max_tokens=12)
    greedy = search(decoder, memory, TEXT, config)
    with torch.inference_mode():
        beam = beam_search(Writing(decoder, memory, TEXT, Start(captions=1, steps=12)), TEXT, config, 12)
    assert [found[0].tokens for found in beam] == [found[0].tokens for found in greedy]
    assert [found[0].score for found in beam] == pytest.approx([found[0].score for found in greedy], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_those_of_a_forward_pass(seed: int, beams: int, make: Make) -> None:
    decoder, memory = make(seed)
    penalty = 0.8
    lengths = set()
    for image, found in enumerate(
        search(decoder, memory, TEXT, GenerationConfig(beams=beams, max_tokens=8, length_penalty=penalty))
    ):
        assert len(found) == beams == len({h.tokens for h in found})
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            written = h.tokens if len(h.tokens) == 8 else (*h.tokens, TEXT.eos_id)
            lengths.add(len(written))
            alone = memory.select(torch.tensor([image]))
            [wanted] = exhaustive_search.score(decoder, alone, [written], bos=TEXT.bos_id, eos=TEXT.eos_id)
            assert h.log_prob == pytest.approx(wanted.log_prob, abs=1e-4)
            assert h.score == pytest.approx(wanted.log_prob / len(written) ** penalty, abs=1e-4)
            assert TEXT.eos_id not in h.tokens
    assert lengths


@pytest.mark.parametrize("beams", [1, 3])
def test_neither_batch_size_nor_order_changes_a_caption(beams: int, make: Make) -> None:
    decoder, memory = make(1, images=6)
    config = GenerationConfig(beams=beams, max_tokens=12, length_penalty=1.0)
    together = search(decoder, memory, TEXT, config)
    assert len({found[0].tokens for found in together}) > 3, "these images look too much alike to prove much"
    assert len({len(found[0].tokens) for found in together}) > 2, "they all end at once"
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = search(decoder, memory.select(order), TEXT, config)
    for place, image in enumerate(order.tolist()):
        alone = search(decoder, memory.select(order[place : place + 1]), TEXT, config)[0]
        for other in (shuffled[place], alone):
            assert [h.tokens for h in other] == [h.tokens for h in together[image]]
            assert [h.score for h in other] == pytest.approx([h.score for h in together[image]], abs=1e-5)


def test_an_image_is_remembered_once_whatever_the_beams(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, memory = make(2)
    made: list[Any] = []
    read: list[Any] = []
    for block in decoder.blocks:
        block.cross_attn.kv_proj.register_forward_hook(lambda *_: made.append(1))
        block.cross_attn.register_forward_pre_hook(lambda _, args: read.append((args[0].shape[0], args[1][0].shape)))
    search(decoder, memory, TEXT, GenerationConfig(beams=5, max_tokens=6))
    assert made == []  # the keys and values that came with the memory are all there ever are
    assert {rows // shape[0] for rows, shape in read} == {1, 5}  # one start token, then five beams,
    assert {shape[0] for _, shape in read} <= {1, 2, 3, 4}  # on one copy of each image


@pytest.mark.parametrize("beams", [1, 3])
def test_images_that_have_ended_cost_nothing(beams: int, make: Make) -> None:
    decoder, memory = make(1, images=6)
    rows: list[int] = []
    decoder.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    found = search(decoder, memory, TEXT, GenerationConfig(beams=beams, max_tokens=15))
    assert rows[0] == 6
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < 6 * beams
    if beams == 1:
        lengths = [min(len(hypotheses[0].tokens) + 1, 15) for hypotheses in found]
        assert rows == [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_a_length_penalty_prefers_long_captions(make: Make) -> None:
    lengths = []
    for penalty in (0.0, 1.0, 3.0):
        found: list[int] = []
        for seed in SEEDS:
            decoder, memory = make(seed)
            config = GenerationConfig(beams=4, max_tokens=12, length_penalty=penalty)
            found += [len(hypotheses[0].tokens) for hypotheses in search(decoder, memory, TEXT, config)]
        lengths.append(sum(found))
    assert lengths[0] < lengths[1] < lengths[2]


@pytest.mark.parametrize("beams", [1, 4])
def test_captions_end_where_they_must(beams: int, make: Make) -> None:
    decoder, memory = make(0, context=7)
    for most, wanted in ((1, 1), (3, 3), (50, 6)):  # the start token takes one of the seven positions
        found = search(decoder, memory, TEXT, GenerationConfig(beams=beams, max_tokens=most, length_penalty=2.0))
        assert max(len(h.tokens) for hypotheses in found for h in hypotheses) == wanted


@pytest.mark.parametrize("beams", [1, 3])
def test_a_caption_may_end_at_once(beams: int, make: Make) -> None:
    decoder, memory = make(0)
    found = search(decoder, memory, TEXT, GenerationConfig(beams=beams, max_tokens=6))
    ending = replace(TEXT, eos_id=found[0][0].tokens[0])  # its first token is now the end
    at_once = search(decoder, memory.select(torch.tensor([0])), ending, GenerationConfig(beams=beams, max_tokens=6))
    assert () in {h.tokens for h in at_once[0]}
    if beams == 1:
        assert at_once[0][0].tokens == ()


def test_start_and_end_may_be_one_token(make: Make) -> None:
    """GPT-2 has one special token for both."""
    decoder, memory = make(3)
    one = TextConfig(bos_id=1, eos_id=1, pad_id=1)
    for beams in (1, 3):
        for hypotheses in search(decoder, memory, one, GenerationConfig(beams=beams, max_tokens=10)):
            assert all(1 not in h.tokens for h in hypotheses)


def test_more_beams_than_captions(make: Make) -> None:
    decoder, memory = make(0, images=2, vocab_size=3)
    for most, captions in ((1, 3), (2, 7)):  # "", a, b; then also aa, ab, ba, bb
        for found in search(decoder, memory, TEXT, GenerationConfig(beams=40, max_tokens=most)):
            assert len(found) == captions == len({h.tokens for h in found})
            assert all(h.score > -1e6 and TEXT.eos_id not in h.tokens for h in found)
