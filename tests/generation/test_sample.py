"""Sampling follows the model's distribution, and depends only on the image and the random seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captioner.config import GenerationConfig, SamplingConfig, WordRules
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.sample import content_seed, draw, truncated
from captioner.generation.search import search
from captioner.models.decoder import Decoder, ImageMemory

from ..reference import every_caption, slow_rules, slow_sampling
from .conftest import TEXT
from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
SAMPLINGS = [
    SamplingConfig(),
    SamplingConfig(temperature=0.6),
    SamplingConfig(temperature=1.8),
    SamplingConfig(top_k=3),
    SamplingConfig(top_k=1),
    SamplingConfig(top_p=0.7),
    SamplingConfig(top_p=1e-9),
    SamplingConfig(min_p=0.2),
    SamplingConfig(typical_p=0.6),
    SamplingConfig(temperature=1.4, top_k=6, top_p=0.9, min_p=0.05, typical_p=0.95),
]


def rows(seed: int, *, size: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(7, size, generator=generator).mul(2).log_softmax(-1)
    found[0, ::2] = -torch.inf  # forbidden by rules
    return found


def assert_drawn(counts: Mapping[object, int], wanted: Mapping[object, float]) -> None:
    """Check draws by Pearson's chi-square test at 0.1 %, with rare outcomes pooled.

    The quantile is that of Wilson and Hilferty 1931.
    """
    draws = sum(counts.values())
    assert set(counts) <= {key for key, p in wanted.items() if p > 0}
    cells: list[tuple[float, int]] = []
    rare, seen = 0.0, 0
    for key, p in wanted.items():
        if draws * p >= 5:
            cells.append((draws * p, counts.get(key, 0)))
        else:
            rare, seen = rare + draws * p, seen + counts.get(key, 0)
    cells += [(rare, seen)] if rare >= 5 else []
    free = len(cells) - 1
    assert free > 0
    most = free * (1 - 2 / (9 * free) + 3.09 * math.sqrt(2 / (9 * free))) ** 3
    assert sum((count - mean) ** 2 / mean for mean, count in cells) < most


@pytest.mark.parametrize("config", SAMPLINGS)
def test_the_likelier_part_is_the_slow_one(config: SamplingConfig) -> None:
    for seed in range(30):
        log_probs = rows(seed)
        wanted = [slow_sampling.truncated(row, config) for row in log_probs.tolist()]
        found = truncated(log_probs, config)
        torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(truncated(log_probs[:, None], config)[:, 0], found)


@pytest.mark.parametrize("config", SAMPLINGS)
def test_the_likelier_part_is_that_of_transformers(config: SamplingConfig) -> None:
    from transformers.generation import logits_process as theirs

    warpers = [theirs.TemperatureLogitsWarper(config.temperature)]
    warpers += [theirs.TopKLogitsWarper(config.top_k)] if config.top_k else []
    warpers += [theirs.TopPLogitsWarper(config.top_p)] if config.top_p else []
    warpers += [theirs.MinPLogitsWarper(config.min_p)] if config.min_p else []
    warpers += [theirs.TypicalLogitsWarper(config.typical_p)] if config.typical_p else []
    for seed in range(30):
        log_probs = rows(seed, size=40)[1:]
        wanted = log_probs
        for warper in warpers:
            wanted = warper(torch.zeros(1), wanted)
        torch.testing.assert_close(truncated(log_probs, config), wanted.log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_odd_settings() -> None:
    log_probs = rows(0)
    plain = truncated(log_probs, SamplingConfig())
    off = (SamplingConfig(top_k=0), SamplingConfig(min_p=0.0), SamplingConfig(top_p=1.0), SamplingConfig(typical_p=1.0))
    for same in (SamplingConfig(top_k=99), *off):
        assert torch.equal(truncated(log_probs, same), plain)
    for cold in (1e-4, 1e-30, 1e-45, 1e-300):
        found = truncated(log_probs, SamplingConfig(temperature=cold))
        assert torch.equal(found.exp(), torch.nn.functional.one_hot(log_probs.argmax(-1), 9).float())
    hot = truncated(log_probs, SamplingConfig(temperature=1e30))
    torch.testing.assert_close(hot[1:].exp(), torch.full((6, 9), 1 / 9))
    nothing = torch.full((1, 9), -torch.inf)
    for config in SAMPLINGS:
        assert torch.equal(truncated(nothing, config), nothing)


@pytest.mark.parametrize("config", [SAMPLINGS[0], SAMPLINGS[2], SAMPLINGS[5], SAMPLINGS[8]])
def test_tokens_are_drawn_as_often_as_the_distribution_says(config: SamplingConfig) -> None:
    log_probs = rows(3)[:3, None]  # (B, 1, V), one of them with tokens that cannot be drawn
    counts: list[Counter[object]] = [Counter(), Counter(), Counter()]
    choose = draw(config, [1, 2, 3], 500)
    for _ in range(10):
        for image, tokens in enumerate(choose(log_probs, torch.arange(3)).tolist()):
            counts[image].update(tokens)
    for image, row in enumerate(truncated(log_probs, config)[:, 0].exp().tolist()):
        assert_drawn(counts[image], dict(enumerate(row)))


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_least_and_the_greatest_number_draw_what_can_be_drawn(
    number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_probs = torch.tensor([[[-torch.inf, -1.0, -torch.inf, -1.0, -torch.inf]]])
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, number, dtype=torch.float64))
    choose = draw(SamplingConfig(), [0], 2)
    assert choose(log_probs, torch.arange(1)).tolist() == [[3 if number else 1] * 2]


@pytest.mark.parametrize(
    ("config", "rules"),
    [
        (SamplingConfig(), WordRules()),
        (SamplingConfig(temperature=1.5, top_k=4), WordRules(repetition_penalty=1.5)),
        (SamplingConfig(temperature=2.5, top_p=0.9), WordRules(prefix="b", forbid=("a",), no_repeat_ngram=1)),
        (SamplingConfig(min_p=0.05, typical_p=0.95), WordRules(bias={"a b": 1.0})),
    ],
)
def test_whole_captions_are_drawn_as_often_as_the_model_says(
    config: SamplingConfig, rules: WordRules, make: Make
) -> None:
    decoder, memory = make(2, images=1, vocab_size=5)
    generation = GenerationConfig(max_tokens=3, sampling=config, rules=rules, candidates=250)
    compiled = compile_rules(generation, toy_words(5))
    copies = memory.select(torch.zeros(16, dtype=torch.long))
    found = search(decoder, copies, TEXT, generation, rules=compiled, seeds=range(16))
    assert {len(of_image) for of_image in found} == {250}
    phrases = {**rules.bias, **dict.fromkeys(rules.forbid, -math.inf)}
    wanted = every_caption.all_captions(
        decoder,
        memory,
        bos=TEXT.bos_id,
        eos=TEXT.eos_id,
        most=3,
        prefix=compiled.prefix,
        rules=[
            slow_rules.repetition_penalty(rules.repetition_penalty),
            *([slow_rules.no_repeat_ngram(rules.no_repeat_ngram)] if rules.no_repeat_ngram else []),
            slow_rules.phrase_bias(phrases, toy_words(5).pieces),
            lambda row, said: slow_sampling.truncated(row, config),
        ],
    )
    begun = every_caption.begin(decoder, memory, compiled.prefix, TEXT.bos_id).ranked
    chances = {(c.said(TEXT.eos_id), len(c.tokens)): math.exp(c.ranked - begun) for c in wanted}
    assert sum(chances.values()) == pytest.approx(1)
    assert_drawn(Counter((h.tokens, h.length) for of_image in found for h in of_image), chances)
    log_probs = {(c.said(TEXT.eos_id), len(c.tokens)): c.log_prob for c in wanted}
    for h in found[0]:
        assert h.log_prob == pytest.approx(log_probs[h.tokens, h.length], abs=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_neither_batch_nor_order_nor_company_changes_a_draw(count: int, make: Make) -> None:
    decoder, memory = make(1, images=6)
    sampling = SamplingConfig(temperature=1.3, top_p=0.95)
    config = GenerationConfig(max_tokens=14, sampling=sampling, candidates=count, length_penalty=1.0)
    seeds = [11, 12, 13, 11, 15, 16]
    together = search(decoder, memory, TEXT, config, seeds=seeds)
    lengths = {h.length for found in together for h in found}
    assert len(lengths) > 2, "they all end at once"
    assert all(len(found) == count for found in together)
    assert all([h.score for h in found] == sorted((h.score for h in found), reverse=True) for found in together)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = search(decoder, memory.select(torch.tensor(order)), TEXT, config, seeds=[seeds[i] for i in order])
    for place, image in enumerate(order):
        alone = search(decoder, memory.select(torch.tensor([image])), TEXT, config, seeds=[seeds[image]])[0]
        for other in (shuffled[place], alone):
            assert [h.tokens for h in other] == [h.tokens for h in together[image]]
            assert [h.score for h in other] == pytest.approx([h.score for h in together[image]], abs=1e-5)


def test_the_same_seed_says_the_same_and_another_something_else(make: Make) -> None:
    decoder, memory = make(1, images=6)

    def said(seed: int) -> list[tuple[int, ...]]:
        config = GenerationConfig(sampling=SamplingConfig(seed=seed), max_tokens=12)
        return [found[0].tokens for found in search(decoder, memory, TEXT, config)]

    assert said(4) == said(4)
    assert said(4) != said(5)


def test_no_temperature_is_greedy(make: Make) -> None:
    decoder, memory = make(2, images=5)
    config = GenerationConfig(max_tokens=12)
    greedy = search(decoder, memory, TEXT, config)
    for sampling in (SamplingConfig(temperature=1e-4), SamplingConfig(top_k=1), SamplingConfig(top_p=1e-6)):
        drawn = search(decoder, memory, TEXT, replace(config, sampling=sampling))
        assert [found[0].tokens for found in drawn] == [found[0].tokens for found in greedy]
        assert [found[0].score for found in drawn] == pytest.approx([found[0].score for found in greedy])


def test_a_draw_that_the_rules_leave_nothing_to_say_is_no_caption(make: Make) -> None:
    decoder, memory = make(2, images=3, vocab_size=5)
    config = GenerationConfig(max_tokens=9, min_tokens=9, rules=WordRules(no_repeat_ngram=1))
    rules = compile_rules(config, toy_words(5))

    def often_nothing(log_probs: Tensor, said: Tensor) -> Tensor:
        stuck = (said[:, :1] == 3).any(dim=1, keepdim=True)  # captions that begin with this word have no continuation
        return log_probs.masked_fill(stuck, -torch.inf)

    for sampling in (SamplingConfig(), SamplingConfig(top_k=2, top_p=0.9, min_p=0.01, typical_p=0.9)):
        drawn = replace(config, sampling=sampling, candidates=4)
        assert search(decoder, memory, TEXT, drawn, rules=rules) == [[], [], []]  # nine tokens, four words
        some = replace(drawn, candidates=40, min_tokens=1, max_tokens=4, rules=WordRules())
        found = search(decoder, memory, TEXT, some, rules=Rules(processors=(often_nothing,)))
        assert all(h.tokens[:1] != (3,) and h.score > -1e6 for of_image in found for h in of_image)
        assert any(0 < len(of_image) < 40 for of_image in found)


def test_the_seed_of_an_image_is_made_of_its_pixels() -> None:
    pixels = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    seed = content_seed(pixels, 7)
    assert 0 <= seed < 2**63
    assert content_seed(pixels.clone(), 7) == seed
    assert (
        content_seed(pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1), 7) == seed
    )  # independent of the memory layout
    changed = pixels.clone()
    changed[0, 0, 0] += 1e-3
    others = {content_seed(changed, 7), content_seed(pixels, 8), content_seed(pixels, -1), content_seed(pixels, 10**40)}
    assert len(others | {seed}) == 5
