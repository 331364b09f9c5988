"""A trimmed vocabulary writes the same tokens for the texts of its corpus, in every kind of tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from captioner.config import TextConfig
from captioner.errors import CheckpointError
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.text.trimming import needed, trimmed

WIDE = [
    f"{first} {colour} {thing} {place} number {n}"
    for n, first in enumerate(("a", "the", "one"))
    for colour in ("red", "yellow", "dark", "grüner")
    for thing in ("dog", "dogs", "motorcycle", "elephant")
    for place in ("on the beach", "beside a motorway", "underneath")
]
KEPT = ["a red dog on the beach", "the dark elephant", "a dog's motorcycle, underneath!"]


def byte_bpe() -> CaptionTokenizer:
    return train_tokenizer(WIDE, 500, languages=["en", "fr"])


def wordpiece() -> CaptionTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer = normalizers.BertNormalizer()
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece(prefix="##")
    model.train_from_iterator([*WIDE, *KEPT], trainers.WordPieceTrainer(vocab_size=150, special_tokens=special))
    model.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return CaptionTokenizer(model, TextConfig(pad_id=0, bos_id=2, eos_id=3))


def unigram() -> CaptionTokenizer:
    model = Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    model.train_from_iterator([*WIDE, *KEPT], trainer)
    return CaptionTokenizer(model, TextConfig(pad_id=0, bos_id=1, eos_id=2))


@pytest.mark.parametrize("make", [byte_bpe, wordpiece, unigram])
def test_the_corpus_keeps_its_tokens(make: Callable[[], CaptionTokenizer]) -> None:
    whole = make()
    keep = needed(whole, KEPT)
    small, places = trimmed(whole, keep)
    assert small.vocab_size == len(keep) < whole.vocab_size
    assert sorted(places.values()) == list(range(len(keep)))
    for caption in KEPT:
        ids = whole.encode(caption)
        assert small.encode(caption) == [places[token] for token in ids]
        assert small.decode(small.encode(caption)) == whole.decode(ids)
    for old, new in places.items():
        assert small.model.id_to_token(new) == whole.model.id_to_token(old)
        assert small.pieces[new] == whole.pieces[old]
    for name in ("bos_id", "eos_id", "pad_id"):
        assert getattr(small.config, name) == places[getattr(whole.config, name)]


@pytest.mark.parametrize("make", [byte_bpe, wordpiece, unigram])
def test_other_words_can_still_be_written(make: Callable[[], CaptionTokenizer]) -> None:
    whole = make()
    small, _ = trimmed(whole, needed(whole, KEPT))
    assert small.decode(small.encode("a yellow dog")) == "a yellow dog"
    assert len(small.encode("yellow")) >= len(whole.encode("yellow"))


def test_parts_of_a_merge_are_kept() -> None:
    """Without ``th`` no merge leads to ``the``, although no text ends in that part."""
    whole = byte_bpe()
    keep = needed(whole, ["the elephant"])
    merges = json.loads(whole.to_json())["model"]["merges"]
    kept = {whole.model.id_to_token(token) for token in keep}
    made = {first + second: (first, second) for first, second in map(tuple, merges)}
    assert all({*made[token]} <= kept for token in kept if token in made)
    longest = max((token for token in kept if token in made), key=len)
    assert len(longest) > 3


def test_all_languages_keep_their_start() -> None:
    whole = byte_bpe()
    small, places = trimmed(whole, needed(whole, KEPT))
    assert small.config.languages == {name: places[start] for name, start in whole.config.languages.items()}


def test_frequent_tokens_alone() -> None:
    whole = byte_bpe()
    corpus = [*["a red dog"] * 5, "an elephant"]
    every, frequent = needed(whole, corpus), needed(whole, corpus, least=5)
    assert frequent < every
    small, places = trimmed(whole, frequent)
    assert small.encode("a red dog") == [places[token] for token in whole.encode("a red dog")]
    assert small.decode(small.encode("an elephant")) == "an elephant"


def test_merges_of_older_files_are_read() -> None:
    whole = byte_bpe()
    values = json.loads(whole.to_json())
    values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]
    old = CaptionTokenizer.from_json(json.dumps(values), whole.config)
    assert trimmed(old, needed(old, KEPT))[0].to_json() == trimmed(whole, needed(whole, KEPT))[0].to_json()


def test_another_kind_is_refused() -> None:
    class Odd(CaptionTokenizer):
        def to_json(self) -> str:
            return json.dumps({"model": {"type": "Other", "vocab": {}}})

    with pytest.raises(CheckpointError, match="kind Other cannot be trimmed"):
        needed(Odd(byte_bpe().model, byte_bpe().config), KEPT)
