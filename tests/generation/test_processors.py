"""Rules on words, compared with slow references, with transformers, and with the text of captions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.processors import (
    Processor,
    minimum_length,
    no_repeat_ngram,
    phrase_bias,
    repetition_penalty,
)
from captioner.text import CaptionTokenizer, train_tokenizer

from ..reference import slow_rules

V, EOS = 7, 1
PAIRS: list[tuple[Processor, slow_rules.Rule]] = [
    *((minimum_length(n, EOS), slow_rules.minimum_length(n, EOS)) for n in (1, 3, 6)),
    *((repetition_penalty(factor), slow_rules.repetition_penalty(factor)) for factor in (0.5, 1.3, 4.0)),
    *((no_repeat_ngram(size), slow_rules.no_repeat_ngram(size)) for size in (1, 2, 3)),
]
CAPTIONS = ["a hot dog and a dog", "the Café is closed", "a catalogue of Änderungen", "das Mädchen, ein Bär"] * 3


def random_inputs(seed: int, *, rows: int = 5, tokens: int = V) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(rows, tokens, generator=generator).mul(3).log_softmax(-1)
    return log_probs, torch.randint(0, tokens, (rows, seed % 9), generator=generator)


def slowly(rules: list[slow_rules.Rule], log_probs: Tensor, said: Tensor) -> list[list[float]]:
    found = []
    for row, tokens in zip(log_probs.tolist(), said.tolist(), strict=True):
        for rule in rules:
            row = rule(row, tuple(tokens))
        found.append(row)
    return found


def assert_same(found: Tensor, wanted: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=found.dtype), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_each_is_its_slow_twin(pair: tuple[Processor, slow_rules.Rule]) -> None:
    changed = 0
    for seed in range(60):
        log_probs, said = random_inputs(seed)
        untouched = log_probs.clone()
        found = pair[0](log_probs, said)
        assert_same(found, slowly([pair[1]], log_probs, said))
        assert torch.equal(log_probs, untouched), "a processor is a pure function"
        changed += not torch.equal(found, log_probs)
    assert changed or pair is PAIRS[0]  # a minimum of one token asks for nothing


def test_all_together_in_any_order() -> None:
    for seed, chosen in enumerate(itertools.permutations(PAIRS[1:9:2] + PAIRS[2:3], 4)):
        log_probs, said = random_inputs(seed)
        found = log_probs
        for processor, _ in chosen:
            found = processor(found, said)
        assert_same(found, slowly([rule for _, rule in chosen], log_probs, said))


def test_they_are_those_of_transformers() -> None:
    from transformers.generation import logits_process

    theirs: list[tuple[Processor, Callable[[Tensor, Tensor], Tensor]]] = [
        *((minimum_length(n + 1, EOS), logits_process.MinLengthLogitsProcessor(n, EOS)) for n in (0, 1, 4)),
        *((repetition_penalty(f), logits_process.RepetitionPenaltyLogitsProcessor(f)) for f in (0.5, 1.3)),
        *((no_repeat_ngram(n), logits_process.NoRepeatNGramLogitsProcessor(n)) for n in (1, 2, 3)),
    ]
    for ours, other in theirs:
        for seed in range(40):
            log_probs, said = random_inputs(seed)
            if not said.numel() and not isinstance(other, logits_process.MinLengthLogitsProcessor):
                continue  # transformers always has a start token
            torch.testing.assert_close(ours(log_probs, said), other(said, log_probs.clone()))


def test_nothing_said_is_nothing_repeated() -> None:
    log_probs, _ = random_inputs(0)
    nothing = torch.zeros(len(log_probs), 0, dtype=torch.long)
    for processor in (repetition_penalty(2.0), no_repeat_ngram(1), no_repeat_ngram(3)):
        assert torch.equal(processor(log_probs, nothing), log_probs)


def gpt2_like(size: int) -> CaptionTokenizer:
    """Return a tokenizer with capitals, one special token, and no space before the first word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    model.train_from_iterator(CAPTIONS, trainer)
    return CaptionTokenizer(model, TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=False))


def without_word_borders() -> CaptionTokenizer:
    """Return a tokenizer whose tokens may span the end of a word and the beginning of the next."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<e>"], initial_alphabet=alphabet)
    model.train_from_iterator(CAPTIONS, trainer)
    return CaptionTokenizer(model, TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=False))


TOKENIZERS: dict[str, Callable[[], CaptionTokenizer]] = {
    "few merges": lambda: train_tokenizer(CAPTIONS, 265),
    "whole words": lambda: train_tokenizer(CAPTIONS, 400, lowercase=False),
    "bytes": lambda: gpt2_like(10),
    "as GPT-2": lambda: gpt2_like(300),
    "over borders": without_word_borders,
}
PHRASES = ["dog", "hot dog", "Café", "cat", "Bär", "mädchen", "3.5", ",", "Änderungen"]


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> CaptionTokenizer:
    return TOKENIZERS[request.param]()


def tokens_of(phrase: str, tokenizer: CaptionTokenizer) -> list[int]:
    """Return the tokens that may be part of the phrase, and some others."""
    near = f' ."-\n\t{phrase} {phrase.lower()} {phrase.upper()} {phrase.title()} s'.encode()
    return [token for token, piece in enumerate(tokenizer.pieces) if piece in near]


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_bias_counts_where_the_phrase_is_completed(phrase: str, tokenizer: CaptionTokenizer) -> None:
    phrases = {phrase: 1.5}
    ours, slow = phrase_bias(phrases, tokenizer), slow_rules.phrase_bias(phrases, tokenizer.pieces)
    usual = tokens_of(phrase, tokenizer)
    generator = torch.Generator().manual_seed(1)
    completed = 0
    for case in range(18):
        said = [usual[i] for i in torch.randint(0, len(usual), (case % 5,), generator=generator).tolist()]
        spelt = f"{'a ' * (case % 2)}{phrase if case % 3 else phrase.upper()}".encode()
        cut = len(spelt) - 1 - case % 5 // 2
        said += [tokenizer.pieces.index(bytes([byte])) for byte in spelt[:cut]] if case % 4 else []
        log_probs = torch.zeros(1, tokenizer.vocab_size)
        found = ours(log_probs, torch.tensor([said], dtype=torch.long))
        assert_same(found, slowly([slow], log_probs, torch.tensor([said], dtype=torch.long)))
        completed += int((found > 0).sum())
    assert completed > 2


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_forbidden_phrase_never_comes_out(phrase: str, tokenizer: CaptionTokenizer) -> None:
    """Random tokens can spell the phrase, after a beginning that is almost the phrase."""
    rule = phrase_bias({phrase: -math.inf}, tokenizer)
    usual = tokens_of(phrase, tokenizer)
    assert len(usual) > 5
    generator = torch.Generator().manual_seed(0)
    spelt = [form.encode()[: -1 - cut] for form in (phrase, phrase.upper(), phrase.lower()) for cut in range(2)]
    begun = [(b" " * 20 + written)[-20:] for written in spelt]
    said = torch.tensor([[tokenizer.pieces.index(bytes([byte])) for byte in text] for text in begun]).repeat(50, 1)
    allowed = torch.full((tokenizer.vocab_size,), -math.inf)
    allowed[usual] = 0.0
    stopped = 0
    for _ in range(8):
        log_probs = rule(allowed.expand(len(said), -1), said)
        stopped += int((log_probs[:, usual] == -math.inf).sum())
        said = torch.cat([said, torch.multinomial(log_probs.exp(), 1, generator=generator)], dim=1)
    assert stopped > 50, "the rule was hardly needed"
    whole = re.compile(rf"(?<![^\W_]){re.escape(phrase)}(?!\w)" if phrase[0].isalnum() else re.escape(phrase), re.I)
    for tokens in said.tolist():
        assert not whole.search(" ".join(tokenizer.decode(tokens).split()))


@pytest.mark.parametrize("beginning", [True, False])
def test_a_phrase_cannot_be_spelt_letter_by_letter(beginning: bool, tokenizer: CaptionTokenizer) -> None:
    rule = phrase_bias({"Hot  DOG": -math.inf}, tokenizer)
    for written in ("hot dog", "HOT DOG", "hot\ndog", "hot  dog", "hOt doG"):
        said = [tokenizer.pieces.index(bytes([byte])) for byte in (written if beginning else f'a "{written}').encode()]
        log_probs = torch.zeros(1, tokenizer.vocab_size)
        before, last = torch.tensor([said[:-1]]), said[-1]
        assert rule(log_probs, before)[0, last] == -math.inf
        assert rule(log_probs, before).isfinite().sum() > 200
        other = torch.tensor([[tokenizer.pieces.index(b"s"), *said[:-1]]])
        assert rule(log_probs, other)[0, last] == (0 if beginning else -math.inf)  # "shot dog"


def test_other_words_may_be_said() -> None:
    tokenizer = train_tokenizer(["a cat", "a catalogue", "a catalogue of cats"] * 9, 400)
    rule = phrase_bias({"cat": -math.inf}, tokenizer)
    [*before], last = tokenizer.encode("a catalogue")[:-1], tokenizer.encode("a catalogue")[-1]
    assert tokenizer.pieces[last] == b" catalogue"
    row = rule(torch.zeros(1, tokenizer.vocab_size), torch.tensor([before]))[0]
    assert row[last] == 0
    assert row[tokenizer.encode("a cat")[-1]] == -math.inf


def test_several_phrases_add_up() -> None:
    tokenizer = train_tokenizer(["a hot dog"] * 9, 400)
    rule = phrase_bias({"dog": 1.0, "hot dog": 2.5, "a": -math.inf}, tokenizer)
    a, hot, dog = tokenizer.encode("a hot dog")
    rows = rule(torch.zeros(2, tokenizer.vocab_size), torch.tensor([[dog, hot], [hot, dog]]))
    assert rows[:, dog].tolist() == [3.5, 1.0]
    assert rows[:, a].tolist() == [-math.inf, -math.inf]
    assert rows[:, hot].tolist() == [0, 0]


def test_scripts_without_spaces() -> None:
    """A word may begin at any character."""
    tokenizer = train_tokenizer(["犬が浜辺を走っている"] * 9, 300)
    rule = phrase_bias({"浜辺": -math.inf}, tokenizer)
    *before, last = (tokenizer.pieces.index(bytes([byte])) for byte in "犬が浜辺".encode())
    assert rule(torch.zeros(1, tokenizer.vocab_size), torch.tensor([before]))[0, last] == -math.inf


@pytest.mark.parametrize(
    "phrase", ["t-shirt", "T-Shirt", "man's", "Man's hat", "dog", "3.5", "doghouse", "cafe", "Café"]
)
def test_phrases_of_wordpiece(phrase: str, bert: CaptionTokenizer) -> None:
    rule = phrase_bias({phrase: -math.inf}, bert)
    tokens = bert.encode(phrase)
    zeros = torch.zeros(1, bert.vocab_size)
    for before in ([], bert.encode("a big"), bert.encode("a (")):
        row = rule(zeros, torch.tensor([[*before, *tokens[:-1]]], dtype=torch.long))[0]
        assert row[tokens[-1]] == -math.inf
        assert row.isfinite().sum() == bert.vocab_size - 1


def test_a_forbidden_phrase_of_wordpiece_never_comes_out(bert: CaptionTokenizer) -> None:
    for phrase in ("t-shirt", "man's hat", "dog"):
        rule = phrase_bias({phrase: -math.inf}, bert)
        usual = [*{*bert.encode(phrase), *bert.encode("a")}]
        generator = torch.Generator().manual_seed(0)
        said = torch.full((300, 1), usual[0])
        allowed = torch.full((bert.vocab_size,), -math.inf)
        allowed[usual] = 0.0
        stopped = 0
        for _ in range(9):
            log_probs = rule(allowed.expand(len(said), -1), said)
            stopped += int((log_probs[:, usual] == -math.inf).sum())
            said = torch.cat([said, torch.multinomial(log_probs.exp(), 1, generator=generator)], dim=1)
        assert stopped > 5, "the rule was hardly needed"
        for tokens in said[:, 1:].tolist():
            assert not re.search(rf"(?<!\w){phrase}(?!\w)", bert.decode(tokens))


def test_n_grams_of_wordpiece(bert: CaptionTokenizer) -> None:
    said = bert.encode("a man's hat, a man's")
    row = no_repeat_ngram(4)(torch.zeros(1, bert.vocab_size), torch.tensor([said]))[0]
    assert row.isinf().nonzero().flatten().tolist() == bert.encode("hat")
