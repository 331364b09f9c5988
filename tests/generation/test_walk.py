"""Interrupted iteration over captions leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from captioner.config import GenerationConfig, SamplingConfig, WordRules
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.search import one_by_one, search
from captioner.generation.step import Start, Writing
from captioner.generation.walk import greedy_choice, walk
from captioner.models.decoder import Decoder, ImageMemory

from .conftest import TEXT
from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]


@pytest.mark.parametrize("sampling", [None, SamplingConfig(temperature=1.5)])
@pytest.mark.parametrize("prefix", ["", "c a"])
def test_one_by_one_is_the_caption_of_the_search(prefix: str, sampling: SamplingConfig | None, make: Make) -> None:
    decoder, memory = make(1, images=6)
    config = GenerationConfig(
        max_tokens=9, sampling=sampling, rules=WordRules(prefix=prefix, no_repeat_ngram=2, forbid=("b",))
    )
    rules = compile_rules(config, toy_words(12))
    ended = []
    for image in range(6):
        alone = memory.select(torch.tensor([image]))
        [[h]] = search(decoder, alone, TEXT, config, rules=rules, seeds=[image])
        tokens = list(one_by_one(decoder, alone, TEXT, config, rules=rules, seed=image))
        assert tokens == [*h.tokens, TEXT.eos_id][: h.length]
        ended.append(tokens[-1] == TEXT.eos_id)
    assert any(ended)


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("sampling", [None, SamplingConfig()])
def test_a_stream_that_is_closed_leaves_nothing_behind(taken: int, sampling: SamplingConfig | None, make: Make) -> None:
    decoder, memory = make(3, images=1)
    config = GenerationConfig(max_tokens=12, min_tokens=6, sampling=sampling)
    rules = compile_rules(config, toy_words(12))
    weights = {name: value.clone() for name, value in decoder.state_dict().items()}
    read = [tensor.clone() for layer in memory.layers for tensor in layer]
    random = torch.get_rng_state()
    whole = list(one_by_one(decoder, memory, TEXT, config, rules=rules, seed=5))
    assert len(whole) > 5
    stream = one_by_one(decoder, memory, TEXT, config, rules=rules, seed=5)
    beginning = [next(stream) for _ in range(taken)]
    assert not torch.is_inference_mode_enabled()
    other = list(one_by_one(decoder, memory, TEXT, config, rules=rules, seed=5))  # beside the one that waits
    stream.close()  # type: ignore[attr-defined]
    assert (beginning, other) == (whole[:taken], whole)
    assert list(one_by_one(decoder, memory, TEXT, config, rules=rules, seed=5)) == whole
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), random), "draws take their numbers from generators of their own"
    assert all(torch.equal(value, weights[name]) for name, value in decoder.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(read, (t for layer in memory.layers for t in layer), strict=True))


@torch.inference_mode()
def test_a_step_says_who_is_under_way(make: Make) -> None:
    decoder, memory = make(1, images=6)
    writing = Writing(decoder, memory, TEXT, Start(captions=1, steps=12))
    ended: list[int] = []
    for number, step in enumerate(walk(writing, TEXT, 12, greedy_choice), start=1):
        assert writing.tokens.shape == (len(step.images), 1, number)
        assert not set(ended) & set(step.images.tolist())
        here = step.ends.any(1)
        assert torch.equal(step.ends, (writing.tokens[..., -1] == TEXT.eos_id) | (number == 12))
        torch.testing.assert_close(step.ranked, writing.log_probs.double().sum(-1), atol=1e-5, rtol=0)
        ended += step.images[here].tolist()
    assert sorted(ended) == list(range(6))


@torch.inference_mode()
def test_where_nothing_may_be_said_the_walk_is_over(make: Make) -> None:
    decoder, memory = make(1, images=3)

    def nothing(log_probs: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        return log_probs if said.shape[1] < 2 else torch.full_like(log_probs, -torch.inf)

    config = GenerationConfig(max_tokens=9, min_tokens=5)
    rules = Rules(processors=(nothing, *compile_rules(config, toy_words(12)).processors))
    alone = memory.select(torch.tensor([0]))
    tokens = list(one_by_one(decoder, alone, TEXT, config, rules=rules))
    assert len(tokens) == 3
    assert tokens[-1] == TEXT.eos_id
    writing = Writing(decoder, memory, TEXT, Start(captions=1, steps=9, processors=rules.processors))
    steps = list(walk(writing, TEXT, 9, greedy_choice))
    assert len(steps) == 3
    assert not any(step.ends.any() for step in steps)
