"""Captions through a WordPiece vocabulary: pieces, text as people write it, and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.checkpoint import Checkpoint, load, save
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.text.pieces import kind_of

from .wordpiece import DEC, ENC, SPECIAL, TEXT, VOCABULARY, wordpiece

CAPTIONS = [
    "a man's t-shirt",
    "two dogs, a black-and-white cat",
    'a sign says "stop"',
    "a doghouse on the beach (big)",
    "10:30 or 3.5",
    "a skateboarding dog's hat!",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CaptionTokenizer:
    return wordpiece(tmp_path_factory.mktemp("wordpiece"))


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_come_back(caption: str, tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.encode(caption)
    assert tokenizer.decode(ids) == caption
    assert tokenizer.decode([DEC, *ids, TEXT.eos_id, *ids]) == caption
    assert not {DEC, TEXT.eos_id, TEXT.pad_id} & set(ids)


def test_pieces_are_the_raw_text_and_written_is_the_text(tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.encode("a man's doghouse")
    assert [tokenizer.pieces[token] for token in ids] == [b" a", b" man", b" '", b" s", b" dog", b"house"]
    assert list(tokenizer.written(ids)) == [b" a", b" man", b"'", b"s", b" dog", b"house"]
    assert tokenizer.pieces[VOCABULARY.index("é")] == " é".encode(), "no byte of a byte-level alphabet"
    assert len(tokenizer.pieces) == tokenizer.vocab_size == ENC + 1


def test_special_tokens_never_appear(tokenizer: CaptionTokenizer) -> None:
    dog = VOCABULARY.index("dog")
    for token in (*map(VOCABULARY.index, SPECIAL), DEC, ENC):
        assert tokenizer.pieces[token] == b""
        if token != TEXT.eos_id:
            assert tokenizer.decode([token, dog, token]) == "dog"
    assert tokenizer.encode("[CLS] dog")[-1:] == [dog]
    assert VOCABULARY.index("[CLS]") not in tokenizer.encode("[CLS] dog"), "these five characters, not the token"


def test_the_raw_form_of_a_phrase(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.raw("Man's T-shirt, Café") == "man ' s t - shirt , cafe"
    assert train_tokenizer(CAPTIONS, 300).raw("Man's T-shirt") == "Man's T-shirt"


def test_tokenizer_json_says_which_kind_it_is(tokenizer: CaptionTokenizer) -> None:
    loaded = CaptionTokenizer.from_json(tokenizer.to_json(), TEXT, ids=ENC + 1)
    assert loaded.is_raw
    assert loaded.pieces == tokenizer.pieces
    for caption in CAPTIONS:
        assert loaded.encode(caption) == tokenizer.encode(caption)
        assert loaded.decode(loaded.encode(caption)) == caption
    assert not train_tokenizer(CAPTIONS, 300).is_raw


def test_a_captioner_is_saved_with_its_kind_of_tokenizer(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """The model has two ids more than the tokenizer file."""
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=DecoderConfig(vocab_size=ENC + 1, width=16, layers=1, heads=2),
        text=TEXT,
        preprocess=PreprocessConfig(size=32),
    )
    made = Checkpoint(Captioner(config).eval(), tokenizer, GenerationConfig(), {})
    loaded = load(save(made, tmp_path / "saved"))
    assert loaded.config.text == TEXT
    assert loaded.tokenizer.pieces == tokenizer.pieces
    ids = loaded.tokenizer.encode("A man's t-shirt, 10:30")
    assert ids == tokenizer.encode("A man's t-shirt, 10:30")
    assert loaded.tokenizer.decode([TEXT.bos_id, *ids, TEXT.eos_id]) == "a man's t-shirt, 10:30"


def test_another_config_keeps_the_ids_of_the_model(tokenizer: CaptionTokenizer) -> None:
    other = tokenizer.with_config(TextConfig(bos_id=ENC, eos_id=TEXT.eos_id, pad_id=0))
    assert other.vocab_size == ENC + 1
    assert other.decode([ENC, *other.encode("a dog")]) == "a dog"


def test_chinese_characters_have_no_spaces(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("一头牛")) == "一头牛"
    assert tokenizer.decode(tokenizer.encode("一头牛, a dog")) == "一头牛, a dog"


def unigram() -> CaptionTokenizer:
    """Return a tokenizer as XLM-R has it: Unigram with a mark for spaces."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁dog", "s", "▁", ",", "é", "▁man", "'"]
    model = Tokenizer(models.Unigram([(word, -float(place)) for place, word in enumerate(words)], unk_id=3))
    model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    model.add_special_tokens([AddedToken(word, special=True) for word in words[:4]])
    return CaptionTokenizer(model, TextConfig(bos_id=0, eos_id=2, pad_id=1, lowercase=False))


def test_pieces_of_a_sentencepiece_vocabulary_have_spaces() -> None:
    tokenizer = unigram()
    ids = tokenizer.encode("a dogs, man's é")
    assert not tokenizer.is_raw
    assert b"".join(tokenizer.written(ids)).decode().strip() == tokenizer.decode(ids) == "a dogs, man's é"
    assert [tokenizer.pieces[token] for token in range(8)] == [b"", b"", b"", b"", b" a", b" dog", b"s", b" "]


def test_bytes_beside_a_sentencepiece_vocabulary() -> None:
    from tokenizers import Tokenizer, decoders, models

    vocab = {"<s>": 0, "▁a": 1, "<0xC3>": 2, "<0xA9>": 3}
    model = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = CaptionTokenizer(model, TextConfig(bos_id=0, eos_id=0, pad_id=0))
    assert kind_of(model) == "metaspace"
    assert b"".join(tokenizer.written([1, 2, 3])).decode() == " aé"
    assert tokenizer.decode([1, 2, 3]) == "aé"
