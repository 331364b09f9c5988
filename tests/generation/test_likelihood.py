"""The log-probabilities of given captions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from captioner.config import DecoderConfig, GenerationConfig, SamplingConfig, TextConfig, WordRules
from captioner.generation import likelihood
from captioner.generation.likelihood import score_captions
from captioner.generation.rules import NO_RULES, compile_rules
from captioner.generation.search import search
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage

from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(vocab_size=5, context=4, width=8, layers=1, heads=2)).eval()


def memory_of(decoder: Decoder, images: int) -> ImageMemory:
    tokens = torch.randn(images, 4, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return decoder.remember(EncodedImage(tokens, (2, 2)))


def test_two_word_captions_are_a_distribution(decoder: Decoder) -> None:
    """The probabilities of all continuations of an image sum to one."""
    memory = memory_of(decoder, 2)
    words = (0, 2, 3, 4)  # anything but the end
    captions = [(), *((a,) for a in words), *((a, b) for a in words for b in words)]
    found = score_captions(decoder, memory, [captions, captions], TEXT)
    three = [(a, b, c) for a in words for b in words for c in words]
    tokens = torch.tensor([[0, *caption] for caption in three])
    for image in range(2):
        one = memory.select(torch.tensor([image]))
        with torch.no_grad():
            steps = decoder(tokens, one)[:, :3].log_softmax(-1)
        longer = steps.gather(2, torch.tensor(three)[..., None]).sum((1, 2))  # begins with three words, ends later
        whole = sum(math.exp(h.log_prob) for h in found[image])
        assert whole + float(longer.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert [h.score for h in found[0]] != pytest.approx([h.score for h in found[1]])


def test_each_token_is_that_of_a_pass_of_its_own(make: Make) -> None:
    decoder, memory = make(3, images=2)
    captions = [[(5, 7), (), (4, 4, 9, 11, 3)], [(6,), (8, 3, 10)]]
    for image, found in enumerate(score_captions(decoder, memory, captions, TEXT)):
        assert [h.tokens for h in found] == captions[image]
        one = memory.select(torch.tensor([image]))
        for h in found:
            assert h.ended
            assert h.score == h.log_prob
            for place, token in enumerate((*h.tokens, TEXT.eos_id)):
                with torch.no_grad():
                    row = decoder(torch.tensor([[TEXT.bos_id, *h.tokens[:place]]]), one)[0, -1].log_softmax(-1)
                assert h.log_probs[place] == pytest.approx(float(row[token]), abs=1e-5)


def test_company_changes_nothing(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other captions, other images, and the size of a pass have no effect."""
    memory = memory_of(decoder, 2)
    captions = [[(3,), (4, 3, 3), ()], [(2, 4)]]
    together = score_captions(decoder, memory, captions, TEXT)
    assert [len(row) for row in together] == [3, 1]
    for image, row in enumerate(captions):
        for place, caption in enumerate(row):
            (alone,) = score_captions(decoder, memory.select(torch.tensor([image])), [[caption]], TEXT)
            assert together[image][place].log_probs == pytest.approx(alone[0].log_probs, abs=1e-5)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 1)
    for row, again in zip(together, score_captions(decoder, memory, captions, TEXT), strict=True):
        assert [h.tokens for h in again] == [h.tokens for h in row]
        assert [h.score for h in again] == pytest.approx([h.score for h in row], abs=1e-5)


def test_nothing_to_judge_is_no_error(decoder: Decoder) -> None:
    assert score_captions(decoder, memory_of(decoder, 2), [[], []], TEXT) == [[], []]


def test_a_caption_beyond_the_context_is_judged_on_its_beginning_and_marked(decoder: Decoder) -> None:
    (found,) = score_captions(decoder, memory_of(decoder, 1), [[(3, 4, 3), (3, 4, 3, 4), (3, 4, 3, 4, 2)]], TEXT)
    whole, full, longer = found
    assert whole.ended
    assert full == longer
    assert (full.tokens, full.length, full.ended) == ((3, 4, 3, 4), 4, False)
    assert full.log_probs[:3] == pytest.approx(whole.log_probs[:3], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ({"beams": 4, "length_penalty": 0.7}, {}),
        ({"beams": 4, "max_tokens": 3}, {}),
        ({"beams": 1, "min_tokens": 4, "length_penalty": 1.0}, {}),
        ({"beams": 3}, {"bias": {"a b": 1.5, "c": -2.0}, "no_repeat_ngram": 2}),
        ({"beams": 3, "length_penalty": 0.5}, {"repetition_penalty": 1.4, "forbid": ["d"], "prefix": "b e"}),
        ({"sampling": {"temperature": 0.7}, "candidates": 5}, {"repetition_penalty": 0.8}),
    ],
)
def test_what_a_search_has_written_scores_as_the_search_says(
    options: dict[str, Any], rules: dict[str, Any], make: Make
) -> None:
    tokenizer = toy_words(12)
    sampling = options.get("sampling")
    plain = {**options, "sampling": SamplingConfig(**sampling) if sampling else None}
    config = GenerationConfig(**{"max_tokens": 9, **plain}, rules=WordRules(**rules))
    compiled = compile_rules(config, tokenizer)
    for seed in range(4):
        decoder, memory = make(seed)
        wanted = search(decoder, memory, TEXT, config, rules=compiled)
        found = score_captions(
            decoder, memory, [[h.tokens for h in row] for row in wanted], TEXT, config, rules=compiled
        )
        for ours, theirs in zip(found, wanted, strict=True):
            for h, other in zip(ours, theirs, strict=True):
                assert h.tokens == other.tokens
                assert h.log_probs == pytest.approx(other.log_probs, abs=1e-4)
                assert h.score == pytest.approx(other.score, abs=1e-4)


def test_a_caption_that_breaks_a_rule_has_no_chance(make: Make) -> None:
    decoder, memory = make(0, images=1)
    config = GenerationConfig(min_tokens=3, rules=WordRules(forbid=("c",)))
    rules = compile_rules(config, toy_words(12))
    kept, short, forbidden = score_captions(decoder, memory, [[(3, 4), (3,), (3, 4, 5)]], TEXT, config, rules=rules)[0]
    assert kept.score == pytest.approx(kept.log_prob)
    assert short.score == forbidden.score == -math.inf
    assert math.isfinite(forbidden.log_prob)
    assert score_captions(decoder, memory, [[(3,)]], TEXT, config, rules=NO_RULES)[0][0].score > -math.inf
