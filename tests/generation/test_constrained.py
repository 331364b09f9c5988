"""Required words: the best captions that contain them, whenever one exists, and never inside a word."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from captioner.config import GenerationConfig, WordRules
from captioner.generation import constrained
from captioner.generation.constrained import Checklist, Phrase
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.search import search
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer

from ..reference import every_caption
from .conftest import TEXT
from .test_beam import slowly
from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
A, B, C = 3, 4, 5  # the first words of the toy vocabulary


def phrase(
    *forms: Sequence[int],
    initial: Sequence[Sequence[int]] = (),
    inner: Sequence[int] = (),
    joiners: Sequence[int] = (),
    size: int = 6,
) -> Phrase:
    """Return a phrase of the rules; ``inner`` tokens continue a word, and so does the token after a joiner."""
    boundary = tuple(token not in inner for token in range(size))
    return Phrase(tuple(map(tuple, forms)), tuple(map(tuple, initial)), boundary, frozenset(joiners))


def says(caption: Sequence[int], wanted: Phrase) -> bool:
    """Return whether a caption, given without its end, contains the phrase at any place."""
    for place, form in itertools.product(range(len(caption)), (*wanted.forms, *wanted.initial)):
        end = place + len(form)
        held = place > 0 and caption[place - 1] in wanted.joiners and form[0] not in wanted.joiners
        here = tuple(caption[place:end]) == form and (place == 0 or form in wanted.forms) and not held
        if here and (end == len(caption) or wanted.boundary[caption[end]]):
            return True
    return False


@pytest.mark.parametrize("joins", [False, True])
def test_the_checklist_is_a_look_at_the_whole_caption(joins: bool) -> None:
    """With joiners the phrases are those of a WordPiece captioner, without forms at the beginning alone."""
    chance = random.Random(0)
    answers = []
    for _ in range(1500):
        tokens = range(1, chance.choice((3, 4, 5)))

        def some(most: int, tokens: range = tokens) -> tuple[int, ...]:
            return tuple(chance.choice(tokens) for _ in range(chance.randint(1, most)))

        joiners = [1] if joins else []
        phrases = [
            phrase(
                *{some(4) for _ in range(chance.randint(1, 2))},
                initial=[some(3) for _ in range(0 if joins else chance.randint(0, 1))],
                inner=[*joiners, *chance.sample(tokens, chance.randint(0, len(tokens) - 1 - joins))],
                joiners=joiners,
            )
            for _ in range(chance.randint(1, 3))
        ]
        checklist = Checklist(phrases)
        states = checklist.start()
        caption: list[int] = []
        for _ in range(chance.randint(0, 14)):
            before = checklist.bank(states)
            wanted = checklist.wanted(states)
            ends = [t for t in tokens if all(p.boundary[t] for p in phrases)]
            if not checklist.is_complete(states) and not (joins and caption[-1:] == joiners):
                steps = wanted | set(ends if checklist.word_is_open(states) else [])
                assert not ends or any(checklist.bank(checklist.after(states, t)) > before for t in steps)
            token = chance.choice(tokens)
            states = checklist.after(states, token)
            caption.append(token)
            assert checklist.is_complete(states) == all(says(caption, p) for p in phrases)
            assert [p.span_in(caption) is not None for p in phrases] == [says(caption, p) for p in phrases]
            answers.append(checklist.is_complete(states))
    assert 0.1 < sum(answers) / len(answers) < 0.9


def test_where_a_phrase_is() -> None:
    wanted = phrase((A, B), (C,), initial=[(B,)], inner=[A])
    assert wanted.span_in([C, A, C]) == (2, 3), "the first one goes on"
    assert wanted.span_in([A, A, B, C]) == (1, 3)
    assert wanted.span_in([B, C]) == (0, 1), "an initial form"
    assert wanted.span_in([A, A]) is None


CASES: list[dict[str, Any]] = [
    {"phrases": [phrase((A,))]},
    {"phrases": [phrase((A, A, B))]},
    {"phrases": [phrase((A, B, A)), phrase((B, A))]},
    {"phrases": [phrase((A, B), inner=[C])]},
    {"phrases": [phrase((A,), inner=[B, C]), phrase((B,), inner=[B, C])]},
    {"phrases": [phrase((A, B), (C,)), phrase((B, B), (A, C))]},
    {"phrases": [phrase((B, C), initial=[(C,)])]},
    {"phrases": [phrase((A,)), phrase((B,)), phrase((C,))]},
    {"phrases": [phrase((B, A))], "rules": WordRules(prefix="a b")},
    {"phrases": [phrase((A, B))], "rules": WordRules(prefix="a b")},
    {"phrases": [phrase((A,), inner=[B, C]), phrase((C,))], "rules": WordRules(prefix="c a")},
    {"phrases": [phrase((A, B))], "rules": WordRules(forbid=("b a",), no_repeat_ngram=1)},
    {"phrases": [phrase((B,), (A, C)), phrase((C,))], "rules": WordRules(repetition_penalty=2.0, forbid=("b",))},
    {"phrases": [phrase((C, C, A))], "rules": WordRules(bias={"a": 1.0, "b b": 2.0}), "min_tokens": 4},
    {"phrases": [phrase((A, B)), phrase((B, A))], "rules": WordRules(no_repeat_ngram=1)},  # cannot be
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.4])
def test_at_full_width_it_finds_the_best_that_say_it(penalty: float, case: dict[str, Any], make: Make) -> None:
    phrases, most = case["phrases"], 4
    rules = case.get("rules", WordRules())
    settings = {"max_tokens": most, "length_penalty": penalty, "min_tokens": case.get("min_tokens", 1)}
    width = 25
    config = GenerationConfig(beams=800, rules=rules, **settings)
    compiled = compile_rules(config, toy_words(6))
    slow, prefix = slowly(config, 6)
    for seed in range(2):
        decoder, memory = make(seed, images=1, vocab_size=6)
        everything = every_caption.all_captions(
            decoder, memory, bos=TEXT.bos_id, eos=TEXT.eos_id, most=most, rules=slow, prefix=prefix
        )
        wanted = [c for c in everything if all(says(c.said(TEXT.eos_id), p) for p in phrases)]
        wanted.sort(key=lambda c: -c.ranked / len(c.tokens) ** penalty)
        found = search(
            decoder, memory, TEXT, config, rules=Rules(compiled.processors, compiled.prefix, tuple(phrases))
        )[0]
        assert len(found) == len(wanted)
        assert [h.score for h in found] == pytest.approx(
            [c.ranked / len(c.tokens) ** penalty for c in wanted], abs=1e-4
        )
        assert {h.tokens for h in found} == {c.said(TEXT.eos_id) for c in wanted}
        assert [h.tokens for h in found[:width]] == [c.said(TEXT.eos_id) for c in wanted[:width]]
        log_probs = {(c.said(TEXT.eos_id), len(c.tokens)): c.log_prob for c in wanted}
        for h in found[:width]:
            assert h.log_prob == pytest.approx(log_probs[h.tokens, h.length], abs=1e-4)
    assert bool(found) == (case is not CASES[-1])


def test_however_narrow_the_search_the_words_are_said(make: Make) -> None:
    """This holds even without a spare token, and against the model's preference."""
    chance = random.Random(1)
    size = 12
    for seed in range(40):
        decoder, memory = make(seed, images=2, vocab_size=size)
        inner = chance.sample(range(3, size), 2)
        words = [token for token in range(3, size) if token not in inner]
        forms = [
            (chance.choice(words), *(chance.choice(range(3, size)) for _ in range(chance.randint(0, 2))))
            for _ in range(chance.randint(1, 4))
        ]
        phrases = tuple(phrase(form, inner=inner, size=size) for form in forms)

        def unwilling(log_probs: torch.Tensor, said: torch.Tensor, inner: list[int] = inner) -> torch.Tensor:
            return log_probs.index_add(1, torch.tensor(inner), torch.full((len(said), 2), 9.0))  # half words, always

        for beams, spare in ((2, 0), (2, 3), (3, 0), (6, 2)):
            config = GenerationConfig(beams=beams, max_tokens=sum(map(len, forms)) + spare, length_penalty=1.0)
            for found in search(decoder, memory, TEXT, config, rules=Rules((unwilling,) * (seed % 2), (), phrases)):
                assert found, (seed, beams, forms)
                assert len(found) <= beams
                for h in found:
                    assert all(says(h.tokens, p) for p in phrases)
                    assert h.length <= config.max_tokens


def test_it_does_what_it_can_for_the_likelier_captions(make: Make) -> None:
    """A wider search is better, and never beats the search without required words."""
    means = []
    wanted = (phrase((3, 4), size=12), phrase((7,), size=12))
    for beams in (2, 5, 30):
        scores = []
        for seed in range(8):
            decoder, memory = make(seed, vocab_size=12)
            config = GenerationConfig(beams=beams, max_tokens=10)
            free = search(decoder, memory, TEXT, GenerationConfig(beams=60, max_tokens=10))
            bound = search(decoder, memory, TEXT, config, rules=Rules(require=wanted))
            assert all(b[0].score <= f[0].score + 1e-6 for f, b in zip(free, bound, strict=True))
            scores += [found[0].score for found in bound]
        means.append(sum(scores) / len(scores))
    assert means[0] < means[1] <= means[2]


def test_it_ends_no_search_too_early(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long prefix and a length penalty, the search waits for captions that may still win."""
    settings = {"beams": 2, "max_tokens": 14, "rules": WordRules(prefix="a b c d e a b c")}
    for penalty in (0.0, 1.0, 2.0):
        config = GenerationConfig(length_penalty=penalty, **settings)  # type: ignore[arg-type]
        rules = Rules((), compile_rules(config, toy_words(12)).prefix, (phrase((7,), size=12),))
        for seed in range(6):
            decoder, memory = make(seed, vocab_size=12)
            found = search(decoder, memory, TEXT, config, rules=rules)
            with monkeypatch.context() as patient:
                patient.setattr(constrained, "may_improve", lambda *_: True)
                waiting = search(decoder, memory, TEXT, config, rules=rules)
            assert [[h.tokens for h in of_image] for of_image in waiting] == [[h.tokens for h in f] for f in found]


def test_neither_batch_nor_order_changes_a_caption(make: Make) -> None:
    decoder, memory = make(1, images=6)
    config = GenerationConfig(beams=4, max_tokens=10, length_penalty=0.5, rules=WordRules(no_repeat_ngram=2))
    rules = Rules(compile_rules(config, toy_words(12)).processors, (4,), (phrase((3, 4), (6,), size=12),))
    together = search(decoder, memory, TEXT, config, rules=rules)
    assert len({h.length for found in together for h in found}) > 2
    order = [3, 0, 5, 1, 4, 2]
    shuffled = search(decoder, memory.select(torch.tensor(order)), TEXT, config, rules=rules)
    for place, image in enumerate(order):
        alone = search(decoder, memory.select(torch.tensor([image])), TEXT, config, rules=rules)[0]
        for other in (shuffled[place], alone):
            assert [h.tokens for h in other] == [h.tokens for h in together[image]]
            assert [h.score for h in other] == pytest.approx([h.score for h in together[image]], abs=1e-5)


@pytest.mark.parametrize(
    "rules",
    [
        WordRules(forbid=("d",)),
        WordRules(prefix="d", no_repeat_ngram=1),
        WordRules(forbid=("a", "b", "c", "d", "e")),
    ],
)
def test_what_cannot_be_said_gives_no_caption(rules: WordRules, make: Make) -> None:
    decoder, memory = make(0, images=2, vocab_size=8)
    config = GenerationConfig(beams=3, max_tokens=6, rules=rules)
    compiled = compile_rules(config, toy_words(8))
    wanted = (phrase((6, 6), size=8),)  # "d d"
    assert search(decoder, memory, TEXT, config, rules=Rules(compiled.processors, compiled.prefix, wanted)) == [[], []]


def test_words_joined_by_hyphens_do_not_count(bert: CaptionTokenizer) -> None:
    """ "shirt" does not occur in "t-shirt", nor "man" in "man's"."""

    def complete(words: str, text: str) -> bool:
        config = GenerationConfig(beams=2, rules=WordRules(require=(words,)))
        checklist = Checklist(compile_rules(config, bert).require)
        states = checklist.start()
        for token in bert.encode(text):
            states = checklist.after(states, token)
        return checklist.is_complete(states)

    for words, text in [("t-shirt", "a t-shirt"), ("man's", "the man's hat"), ("hat", "man's hat, a dog")]:
        assert complete(words, text)
    for words, text in [("shirt", "a t-shirt"), ("man", "a man's hat"), ("dog", "a doghouse"), ("s", "a man's hat")]:
        assert not complete(words, text)
    assert complete("shirt", "a t-shirt, a shirt")


@pytest.mark.parametrize("words", [("t-shirt",), ("man's hat", "dog"), ("shirt", "t-shirt")])
def test_a_search_with_wordpiece_says_the_words(words: tuple[str, ...], make: Make, bert: CaptionTokenizer) -> None:
    decoder, memory = make(0, images=2, vocab_size=bert.vocab_size)
    config = GenerationConfig(beams=3, max_tokens=9, rules=WordRules(require=words, forbid=("big",)))
    for found in search(decoder, memory, bert.config, config, rules=compile_rules(config, bert)):
        assert found
        for hypothesis in found:
            text = f" {bert.decode(hypothesis.tokens)} "
            for word in words:
                assert re.search(rf"(?<![-'\w]){word}(?![-'\w])", text), (word, text)
