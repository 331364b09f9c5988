"""The translation of rules from words to tokens: every spelling, and one sentence per error."""

from __future__ import annotations

import pytest

from captioner.config import GenerationConfig, TextConfig, WordRules
from captioner.errors import UsageError
from captioner.generation.rules import NO_RULES, compile_rules, required
from captioner.text import CaptionTokenizer, train_tokenizer

from .test_processors import gpt2_like
from .toy_words import toy_words

CAPTIONS = ["a dog on the beach", "two puppies", "a doghouse, a dog's life"] * 5


@pytest.fixture(scope="module")
def trained() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 300)


def compiled(tokenizer: CaptionTokenizer, *, most: int = 32, least: int = 1, **rules: object) -> object:
    beams = 2 if rules.get("require") else 1
    config = GenerationConfig(beams=beams, max_tokens=most, min_tokens=least, rules=WordRules(**rules))  # type: ignore[arg-type]
    return compile_rules(config, tokenizer)


def test_no_rules_are_nothing(trained: CaptionTokenizer) -> None:
    assert compiled(trained) == NO_RULES


def test_each_rule_is_a_processor(trained: CaptionTokenizer) -> None:
    config = GenerationConfig(min_tokens=3, rules=WordRules(repetition_penalty=1.2, no_repeat_ngram=3, forbid=("cat",)))
    assert len(compile_rules(config, trained).processors) == 4


@pytest.mark.parametrize("text", ["a photo of", "  A photo of ", "A PHOTO OF."])
def test_a_prefix_is_encoded_as_captions_are(text: str, trained: CaptionTokenizer) -> None:
    rules = compile_rules(GenerationConfig(rules=WordRules(prefix=text)), trained)
    assert trained.decode(rules.prefix) == "a photo of"
    assert rules.prefix == tuple(trained.encode("a photo of"))


def test_a_word_has_one_form_where_it_is_spelt_alike_everywhere(trained: CaptionTokenizer) -> None:
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=("the beach",))), trained).require
    assert phrase.forms == (tuple(trained.encode("the beach")),)
    assert phrase.initial == ()
    assert phrase.length == len(phrase.forms[0])


def test_and_two_where_the_beginning_is_spelt_otherwise() -> None:
    tokenizer = gpt2_like(300)
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=("dog|hot dog",))), tokenizer).require
    inside, beginning = tokenizer.encode("a dog")[1:], tokenizer.encode("dog")
    assert inside != beginning
    assert set(phrase.forms) == {tuple(inside), tuple(tokenizer.encode("a hot dog")[1:])}
    assert set(phrase.initial) == {tuple(beginning), tuple(tokenizer.encode("hot dog"))}


def test_a_word_of_a_script_without_spaces_may_follow_another_one() -> None:
    tokenizer = train_tokenizer(["一头牛在草地上", "a dog"], 300, words="characters")
    wanted = required("牛", tokenizer)
    assert tuple(tokenizer.encode("牛")) in wanted.forms
    assert not wanted.initial
    assert required("dog | 牛", tokenizer) == required("dog|牛", tokenizer)
    spaced = required("dog | cow", tokenizer)
    assert spaced == required("dog|cow", tokenizer)
    assert tuple(tokenizer.encode("dog")) not in spaced.forms, "it would be found in a longer word"


def test_what_goes_on_with_a_word(trained: CaptionTokenizer) -> None:
    """ "dog" does not occur in doghouse, dog's and dog-friendly."""
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=("dog",))), trained).require
    assert len(phrase.boundary) == trained.vocab_size
    ends = {piece: phrase.boundary[token] for token, piece in enumerate(trained.pieces) if piece}
    for piece in (b" ", b"\n", b",", b".", b")", b'"', b" dog", b" the", b"!", b"/"):
        assert ends[piece], piece
    for piece in (b"s", b"'", b"-", b"h", b"7", b"\xc3", b"\xa4"):
        assert not ends[piece], piece
    config = trained.config
    assert phrase.boundary[config.eos_id]
    assert not phrase.boundary[config.bos_id]  # it is not part of the text
    assert not phrase.boundary[config.pad_id]


@pytest.mark.parametrize(
    ("rules", "most", "message"),
    [
        ({"prefix": "a b c"}, 3, "need at least 4 tokens, more than max_tokens 3; raise it"),
        ({"require": ("a", "b", "c")}, 2, "need at least 3 tokens, more than max_tokens 2"),
        ({"require": ("a a a",)}, 2, "need at least 3 tokens"),
        ({"prefix": "a b", "require": ("b", "c", "d")}, 3, "need at least 4 tokens"),
        ({"require": (".",)}, 9, r"'\.' never occurs in captions"),
        ({"require": ("a| . ",)}, 9, "never occurs in captions"),
        ({"prefix": "a <eos> b"}, 9, "'a <eos> b' contains a special token"),
        ({"require": ("<pad>",)}, 9, "'<pad>' contains a special token"),
    ],
)
def test_what_no_caption_can_keep_is_refused(rules: dict[str, object], most: int, message: str) -> None:
    from tokenizers import AddedToken

    tokenizer = toy_words(12)
    tokenizer.model.add_special_tokens([AddedToken(word, special=True) for word in ("<bos>", "<eos>", "<pad>")])
    with pytest.raises(UsageError, match=message) as caught:
        compiled(tokenizer, most=most, **rules)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "most"),
    [
        ({"prefix": "a b", "require": ("a", "a b", "b")}, 3),  # the prefix contains all of it
        ({"require": ("a b", "b c", "c")}, 3),  # they share their words
        ({"require": ("a|b", "a|c")}, 1),
        ({"require": ("a a b",)}, 3),
    ],
)
def test_what_fits_is_not_refused(rules: dict[str, object], most: int) -> None:
    compiled(toy_words(12), most=most, **rules)


def test_one_token_for_start_and_end() -> None:
    tokenizer = gpt2_like(300)
    assert tokenizer.config == TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=False)
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=("dog",))), tokenizer).require
    assert phrase.boundary[0]


@pytest.mark.parametrize("words", ["t-shirt", "T-Shirt", "man's hat", "MAN'S hat"])
def test_required_phrases_of_wordpiece(words: str, bert: CaptionTokenizer) -> None:
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=(words,))), bert).require
    assert phrase.forms == (tuple(bert.encode(words)),)
    assert phrase.initial == ()


def test_words_of_wordpiece_that_continue(bert: CaptionTokenizer) -> None:
    [phrase] = compile_rules(GenerationConfig(beams=2, rules=WordRules(require=("dog",))), bert).require
    ends = {piece: phrase.boundary[token] for token, piece in enumerate(bert.pieces) if piece}
    assert all(ends[piece] for piece in (b" the", b" ,", b" s", b' "', b" ("))
    assert not any(ends[piece] for piece in (b"house", b"s", b" '", b" -"))
    assert phrase.boundary[bert.config.eos_id]
    assert {bert.pieces[token] for token in phrase.joiners} == {b" '", b" -"}


def test_a_prefix_of_wordpiece(bert: CaptionTokenizer) -> None:
    rules = compile_rules(GenerationConfig(rules=WordRules(prefix="A photo of a man's")), bert)
    assert bert.decode(rules.prefix) == "a photo of a man's"


@pytest.mark.parametrize("rules", [{"prefix": "a zebra"}, {"require": ("zebra",)}, {"require": ("dog|zebra",)}])
def test_words_that_wordpiece_cannot_write(rules: dict[str, object], bert: CaptionTokenizer) -> None:
    with pytest.raises(UsageError, match=r"zebra' has a word or character that the checkpoint cannot write; use other"):
        compiled(bert, **rules)
    compiled(bert, forbid=("zebra", "\u200b"), bias={"giraffe": 1.0})  # never occurs
