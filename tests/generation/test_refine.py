"""Refinement: which parts are searched again and which are kept, and that no caption gets worse."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from captioner.config import GenerationConfig, SamplingConfig, TextConfig, WordRules
from captioner.errors import ConfigError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.refine import doubtful_places, doubtful_spans, gapped, infill, recut, refine
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.search import search
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer, train_tokenizer

from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
Captions = list[list[Hypothesis]]
WORDS = toy_words(12)
TEXT = WORDS.config
CONFIGS: list[dict[str, Any]] = [
    {"beams": 1},
    {"beams": 3, "length_penalty": 0.8},
    {"beams": 4, "groups": 2, "diversity": 0.7},
    {"sampling": SamplingConfig(seed=3), "candidates": 3},
    {"beams": 2, "rules": WordRules(bias={"c": 1.0, "a b": 2.0}, repetition_penalty=1.3, prefix="d")},
    {"beams": 2, "min_tokens": 4, "max_tokens": 6, "rules": WordRules(forbid=("e",))},
]


def filling(tokenizer: CaptionTokenizer) -> CaptionTokenizer:
    """Return the same words for a checkpoint that has learnt infilling."""
    config = tokenizer.config
    return CaptionTokenizer(tokenizer.model, replace(config, gap_id=config.pad_id))


def drafted(decoder: Decoder, memory: ImageMemory, config: GenerationConfig, rules: Rules) -> Captions:
    return search(decoder, memory, TEXT, config, rules=rules, seeds=list(range(memory.images)))


@pytest.fixture(scope="module", params=range(len(CONFIGS)), ids=str)
def config(request: pytest.FixtureRequest) -> GenerationConfig:
    return GenerationConfig(**{"max_tokens": 10, "refine": 3, **CONFIGS[request.param]})


@pytest.mark.parametrize("tokenizer", [WORDS, filling(WORDS)], ids=["recut", "infill"])
def test_it_never_gets_worse_and_does_get_better(
    config: GenerationConfig, tokenizer: CaptionTokenizer, make: Make
) -> None:
    rules = compile_rules(config, tokenizer)
    gains = []
    for seed in range(3):
        decoder, memory = make(seed)
        drafts = drafted(decoder, memory, config, rules)
        found = refine(decoder, memory, drafts, tokenizer, config, rules=rules)
        given = [[h.tokens for h in row] for row in drafts]
        before = score_captions(decoder, memory, given, TEXT, config, rules=rules)
        after = score_captions(decoder, memory, [[h.tokens for h in row] for row in found], TEXT, config, rules=rules)
        for old, new, again in zip(before, found, after, strict=True):
            assert len(new) == len(old)
            scores = [h.score for h in new]
            assert scores == sorted(scores, reverse=True)
            assert scores == pytest.approx([h.score for h in again], abs=1e-4)
            assert [h.tokens for h in new] == [h.tokens for h in again]
            gains.append(new[0].score - max(h.score for h in old))
            for h in new:
                assert h.tokens[: len(rules.prefix)] == rules.prefix
                assert h.score > -torch.inf
    assert min(gains) >= 0
    assert max(gains) > 0.01


def test_where_nothing_better_is_found_the_caption_stays(config: GenerationConfig, make: Make) -> None:
    """Further rounds change nothing."""
    rules = compile_rules(config, WORDS)
    decoder, memory = make(1)
    drafts = drafted(decoder, memory, config, rules)
    settled = refine(decoder, memory, drafts, WORDS, replace(config, refine=30), rules=rules)
    again = refine(decoder, memory, settled, WORDS, config, rules=rules)
    assert [row[0].tokens for row in again] == [row[0].tokens for row in settled]


@pytest.mark.parametrize("tokenizer", [WORDS, filling(WORDS)], ids=["recut", "infill"])
def test_company_and_order_change_nothing(config: GenerationConfig, tokenizer: CaptionTokenizer, make: Make) -> None:
    rules = compile_rules(config, tokenizer)
    decoder, memory = make(2, images=5)
    drafts = drafted(decoder, memory, config, rules)
    together = refine(decoder, memory, drafts, tokenizer, config, rules=rules)
    for order in ([3], [4, 2, 0]):
        part = memory.select(torch.tensor(order))
        found = refine(decoder, part, [drafts[image] for image in order], tokenizer, config, rules=rules)
        assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in together[i]] for i in order]


def test_images_without_a_draft_stay_without(make: Make) -> None:
    decoder, memory = make(0, images=3)
    config = GenerationConfig(refine=2, max_tokens=6)
    drafts = [[], search(decoder, memory, TEXT, config)[1], []]
    empty, found, other = refine(decoder, memory, drafts, WORDS, config)
    assert empty == other == []
    assert found


@pytest.mark.parametrize("options", [{"beams": 1}, {"beams": 3, "length_penalty": 0.5}])
def test_a_recut_is_the_best_with_that_beginning_and_another_word(options: dict[str, Any], make: Make) -> None:
    """Rules force a reference search along the beginning, one token at a time."""
    config = GenerationConfig(max_tokens=8, **options)
    for seed in range(4):
        decoder, memory = make(seed, images=3)
        drafts = [row[0] for row in search(decoder, memory, TEXT, config)]
        found = recut(decoder, memory, drafts, WORDS, config)
        for image, draft in enumerate(drafts):
            one = memory.select(torch.tensor([image]))
            wanted = []
            for place in doubtful_places(draft, WORDS)[:3]:
                written = (*draft.tokens, TEXT.eos_id)

                def lead(log_probs: torch.Tensor, said: torch.Tensor, place: int = place) -> torch.Tensor:
                    at = said.shape[1]
                    if at > place:
                        return log_probs
                    ban = torch.zeros(log_probs.shape[1], dtype=torch.bool)
                    ban[written[at]] = True  # noqa: B023
                    return log_probs.masked_fill(ban if at == place else ~ban, -torch.inf)

                wanted.append(search(decoder, one, TEXT, config, rules=Rules(processors=(lead,)))[0][0].tokens)
                assert wanted[-1][:place] == written[:place]
                assert (*wanted[-1], TEXT.eos_id)[place] != written[place]
            assert found[image] == wanted


def test_an_infill_is_the_best_middle_that_the_decoder_writes(make: Make) -> None:
    """A pass over the whole sequence scores each possible middle."""
    tokenizer = filling(toy_words(6))
    gap = tokenizer.config.gap_id
    assert gap is not None
    most = 6
    config = GenerationConfig(beams=60, max_tokens=most)
    words = (3, 4, 5)
    for seed in range(2):
        decoder, memory = make(seed, images=2, vocab_size=6, context=13)
        captions = [(3, 5, 4, 3), (4, 4, 5)]
        drafts = [row[0] for row in score_captions(decoder, memory, [[c] for c in captions], TEXT)]
        found = infill(decoder, memory, drafts, tokenizer, config)
        for image, draft in enumerate(drafts):
            one = memory.select(torch.tensor([image]))
            rewritten = set()
            for start, end in doubtful_spans(draft, tokenizer):
                left, right = draft.tokens[:start], draft.tokens[end:]
                best: dict[tuple[int, ...], float] = {}
                for length in range(most - len(left) - len(right)):
                    middles = list(itertools.product(words, repeat=length))
                    sequences = torch.tensor([[TEXT.bos_id, *left, gap, *right, gap, *m, TEXT.eos_id] for m in middles])
                    with torch.inference_mode():
                        log_probs = decoder(sequences[:, :-1], one).log_softmax(-1)
                    each = log_probs.gather(-1, sequences[:, 1:, None]).squeeze(-1)
                    sums = (
                        each[:, len(left) + len(right) + 2 :].sum(-1).tolist()
                    )  # log-probability of the middle and its end
                    best |= {left + m + right: value for m, value in zip(middles, sums, strict=True)}
                rewritten.add(max(best, key=best.__getitem__))
            assert rewritten <= set(found[image])
            assert all(gap not in caption and len(caption) < most for caption in found[image])


def test_there_may_be_no_room_to_fill_in(make: Make) -> None:
    """The context has to hold both sides, two gaps and a middle."""
    tokenizer = filling(WORDS)
    decoder, memory = make(0, images=1, context=8)
    config = GenerationConfig(beams=2, max_tokens=20, refine=1)
    draft = score_captions(decoder, memory, [[(3, 4, 5, 6, 7, 8)]], TEXT)[0][0]
    spans = doubtful_spans(draft, tokenizer)
    found = infill(decoder, memory, [draft], tokenizer, config)[0]
    assert len(spans) == 4
    assert found
    assert all(len(caption) <= 6 for caption in found)
    assert len(refine(decoder, memory, [[draft]], tokenizer, config)[0]) == 1


def test_doubt_is_a_words_not_a_tokens() -> None:
    tokenizer = train_tokenizer(["a dog runs", "a dog sits"] * 5, 262)  # merges of " a" and " d" at most
    tokens = tuple(tokenizer.encode("a dog sits"))
    starts = [i for i, token in enumerate(tokens) if tokenizer.pieces[token][:1] == b" "]
    assert len(starts) == 3 < len(tokens)
    last = len(tokens) - starts[2]
    first, second = starts[1] - starts[0], starts[2] - starts[1]
    log_probs = [-2.0, *[-1.0] * (first - 1), -1.5, *[-0.1] * (second - 1), *[-0.9] * last]
    caption = Hypothesis(tokens, (*log_probs, -0.2), 0.0)
    assert doubtful_places(caption, tokenizer) == [starts[2], starts[0], starts[1], len(tokens)]
    assert doubtful_places(caption, tokenizer, 1) == [starts[2], starts[1], len(tokens)]
    assert doubtful_places(replace(caption, log_probs=caption.log_probs[:-1]), tokenizer)[-1] == starts[1]
    assert doubtful_spans(caption, tokenizer) == [
        (starts[2], len(tokens)),
        (starts[1], len(tokens)),
        (starts[0], len(tokens)),
    ]


def test_the_form_of_a_gap() -> None:
    assert gapped((5, 6), (7,), 2) == (5, 6, 2, 7, 2)
    assert gapped((), (), 2) == (2, 2)


def test_what_cannot_be_refined() -> None:
    with pytest.raises(ConfigError, match="refine must be at least 0"):
        GenerationConfig(refine=-1)
    with pytest.raises(ConfigError, match="refine could rewrite the required words"):
        GenerationConfig(refine=1, beams=3, rules=WordRules(require=("dog",)))
    with pytest.raises(ConfigError, match="refine would change the samples"):
        GenerationConfig(refine=1, sampling=SamplingConfig(), candidates=5, rerank="consensus")


def test_text_config_knows_no_gap_by_default() -> None:
    assert TextConfig(bos_id=0, eos_id=1, pad_id=2).gap_id is None
