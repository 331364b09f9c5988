"""Captions to ids and back, in any language, without special tokens in captions."""

from __future__ import annotations

import random

import pytest

from captioner.config import TextConfig
from captioner.errors import CheckpointError, ConfigError, UsageError
from captioner.text import CaptionTokenizer, tidy, train_tokenizer

CAPTIONS = ["a dog runs on the beach", "two dogs play in the snow .", "A man, a plan"] * 5
ANY = [
    "a dog runs",
    "ein Bär läuft über die Straße",
    "犬が浜辺を走っている",
    "собака бежит по пляжу",
    "كلب يجري على الشاطئ",
    "कुत्ता समुद्र तट पर दौड़ता है",
    "👩‍👩‍👧 and a 🐕 in 🇫🇷",
    'half-open, it\'s 3,5 % "quoted" <tag> & #1',
    "e\u0301 is not \u00e9",
    "\U00010348 \u200b zero width",
    "<bos> is a word here: <eos> <pad>s",
]


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 320, lowercase=False)


@pytest.mark.parametrize("caption", ANY)
def test_any_language_comes_back(caption: str, tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.encode(caption)
    assert tokenizer.decode(ids) == caption
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    assert not {0, 1, 2} & set(ids)


def test_empty_captions(tokenizer: CaptionTokenizer) -> None:
    for nothing in ("", "   ", "\n\t", "."):
        assert tokenizer.encode(nothing) == []
    assert tokenizer.decode([]) == tokenizer.decode([2]) == tokenizer.decode([1, 2, 0, 0]) == ""


@pytest.mark.parametrize("caption", ["caf\udce9", "\ud800"])
def test_what_is_no_text_is_refused(caption: str, tokenizer: CaptionTokenizer) -> None:
    with pytest.raises(UsageError, match="holds bytes that are not UTF-8"):
        tokenizer.encode(caption)


def test_the_vocabulary_holds_every_byte_and_learns_words(tokenizer: CaptionTokenizer) -> None:
    small = train_tokenizer(CAPTIONS, 10)
    assert small.vocab_size == 259
    assert small.decode(small.encode("ünïcode 🐕")) == "ünïcode 🐕"
    assert tokenizer.vocab_size <= 320
    assert len(tokenizer.encode("the dog runs on the beach")) < len(small.encode("the dog runs on the beach"))


def test_a_word_has_one_form_everywhere(tokenizer: CaptionTokenizer) -> None:
    first, second = tokenizer.encode("dog"), tokenizer.encode("two dog")
    assert second[-len(first) :] == first


def test_decoding_stops_at_the_end(tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.encode("a dog")
    end, start, fill = 2, 1, 0
    for written in ([*ids, end, *ids], [start, *ids, end, fill, fill], [*ids, fill], ids):
        assert tokenizer.decode(written) == "a dog"


def test_one_token_may_start_end_and_fill(tokenizer: CaptionTokenizer) -> None:
    """GPT-2 has one special token: the first one starts, the next one ends."""
    one = CaptionTokenizer(tokenizer.model, TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=False))
    ids = one.encode("a dog")
    assert one.decode([0, *ids, 0, *ids]) == "a dog"
    assert one.decode([*ids, 0, 0]) == "a dog"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A dog  runs .", "a dog runs"),
        (" two dogs , one cat . ", "two dogs, one cat"),
        ("what ?", "what?"),
        ("e.g. this...", "e.g. this"),
        ("line\nbreak\tand tab", "line break and tab"),
        ("It's 3.5 m.", "it's 3.5 m"),
    ],
)
def test_tidy(raw: str, clean: str) -> None:
    assert tidy(raw, lowercase=True) == clean
    assert tidy(clean, lowercase=True) == clean
    assert tidy(raw, lowercase=False).lower() == clean


@pytest.mark.parametrize("lowercase", [True, False])
def test_case(lowercase: bool) -> None:
    tokenizer = train_tokenizer(CAPTIONS, 300, lowercase=lowercase)
    assert tokenizer.config == TextConfig(bos_id=1, eos_id=2, pad_id=0, lowercase=lowercase)
    assert tokenizer.decode(tokenizer.encode("A Dog in Köln")) == ("a dog in köln" if lowercase else "A Dog in Köln")


def test_training_is_reproducible_and_json_keeps_everything(tokenizer: CaptionTokenizer) -> None:
    again = train_tokenizer(iter(CAPTIONS), 320, lowercase=False)
    loaded = CaptionTokenizer.from_json(tokenizer.to_json(), tokenizer.config)
    for caption in ANY:
        assert loaded.encode(caption) == again.encode(caption) == tokenizer.encode(caption)
    assert loaded.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"model": {"type": "Riddle"}}'])
def test_another_file_is_refused_in_one_sentence(text: str, tokenizer: CaptionTokenizer) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not") as caught:
        CaptionTokenizer.from_json(text, tokenizer.config)
    assert "\n" not in str(caught.value)


def test_pieces_joined_are_the_text(tokenizer: CaptionTokenizer) -> None:
    assert len(tokenizer.pieces) == tokenizer.vocab_size
    for caption in ANY:
        ids = [token for token in tokenizer.encode(caption) if token not in (0, 1, 2)]
        assert b"".join(tokenizer.pieces[token] for token in ids).decode().strip() == tokenizer.decode(ids)
    assert {piece for piece in tokenizer.pieces if len(piece) == 1} == {bytes([byte]) for byte in range(256)}


def test_tokens_that_are_no_text_are_empty_pieces(tokenizer: CaptionTokenizer) -> None:
    """Start, end, padding and other special tokens: ``decode`` omits them all."""
    from tokenizers import AddedToken

    own = CaptionTokenizer.from_json(tokenizer.to_json(), tokenizer.config)
    own.model.add_special_tokens([AddedToken("<mask>", special=True)])
    own.model.add_tokens([AddedToken("<smile>", special=False)])
    mask, smile = own.vocab_size - 2, own.vocab_size - 1
    assert [own.pieces[token] for token in (0, 1, 2, mask)] == [b""] * 4
    assert own.pieces[smile] == b"<smile>"
    for ids in ([*own.encode("a"), mask, *own.encode("dog")], [*own.encode("a"), smile]):
        assert b"".join(own.pieces[token] for token in ids).decode().strip() == own.decode(ids)


def test_any_tokens_in_a_row_are_their_pieces(tokenizer: CaptionTokenizer) -> None:
    """This includes sequences that no text gives, with parts of characters."""
    generator = random.Random(0)
    for _ in range(300):
        ids = [generator.randrange(3, tokenizer.vocab_size) for _ in range(8)]
        joined = b"".join(tokenizer.pieces[token] for token in ids).decode(errors="replace")
        assert joined.strip() == tokenizer.decode(ids)


def test_a_captioner_of_two_languages_has_a_start_token_for_each() -> None:
    chinese = "湖边一个小男孩看着鸭子"
    both = train_tokenizer([*CAPTIONS, *[chinese] * 5], 400, words="characters", languages=("en", "zh"))
    config = both.config
    assert config.languages == {"en": config.bos_id, "zh": 3}
    assert (both.language_of("a dog"), both.language_of(chinese)) == ("en", "zh")
    assert (both.start_of("a dog"), both.start_of(chinese)) == (config.bos_id, 3)
    assert both.captions_in("", ["a dog", chinese, "two dogs"]) == ("a dog", "two dogs")
    assert both.captions_in("zh", ["a dog", chinese, "two dogs"]) == (chinese,)
    assert both.captions_in("en", [chinese]) == (chinese,)
    assert config.speaking("zh").bos_id == 3
    assert config.speaking("") is config
    with pytest.raises(ConfigError, match="does not write 'de'; it writes en, zh"):
        config.speaking("de")
    for caption in (*CAPTIONS, chinese, "a 湖 lake"):
        ids = both.encode(caption)
        assert not {0, 1, 2, 3} & set(ids)
        assert both.decode([3, *ids, 2]) == tidy(caption, lowercase=True)
    assert all(len(piece.decode().strip()) <= 1 or piece.isascii() for piece in both.pieces if _whole(piece))
    assert both.encode("dogs") == both.encode("two dogs")[1:], "a word has one form at every place"


def _whole(piece: bytes) -> bool:
    try:
        return bool(piece.decode())
    except UnicodeDecodeError:
        return False


def test_start_tokens_must_belong_to_the_captioner() -> None:
    with pytest.raises(ConfigError, match="bos_id 1 must be the start token"):
        TextConfig(bos_id=1, eos_id=2, pad_id=0, languages={"en": 4})
    with pytest.raises(ConfigError, match=r"languages\.en must be the id"):
        TextConfig(bos_id=1, eos_id=2, pad_id=0, languages={"en": "1"})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="one language only"):
        TextConfig(bos_id=1, eos_id=2, pad_id=0).speaking("zh")
