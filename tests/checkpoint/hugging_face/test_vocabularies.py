"""Older tokenizer files give the ids of transformers' tokenizers; other files give one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.checkpoint.hugging_face.files import read_tokenizer
from captioner.config import TextConfig
from captioner.errors import CheckpointError
from captioner.text import tidy, train_tokenizer

from ...text.wordpiece import ENC, TEXT, VOCABULARY, write_vocabulary

CASED = TextConfig(bos_id=4, eos_id=4, pad_id=0, lowercase=False)
CAPTIONS = [
    "a man's T-shirt, black-and-white",
    "Café É \u0065\u0301 \u00c9t\u00e9",
    "一头牛 and 牛a dog",
    "unheard words: zzz, 10:30 & 3.5",
    "a skateboarding dog\u00a0in the\u200bdoghouse \U0001f415",
    "[CLSX] [unused 0] ## ##s",
    "x" * 101,
]


@pytest.mark.parametrize(
    "settings",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}],
)
def test_vocab_txt_gives_berts_ids(settings: dict[str, Any], tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    write_vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = BertTokenizerFast(vocab={token: i for i, token in enumerate(VOCABULARY)}, **settings)
    ours = read_tokenizer(tmp_path, CASED)
    for caption in CAPTIONS:
        assert ours.encode(caption) == theirs(caption, add_special_tokens=False)["input_ids"], caption
    training = read_tokenizer(tmp_path, TEXT)  # fine-tuning: tidy captions in lower case
    for caption in CAPTIONS:
        tidied = tidy(caption, lowercase=True)
        assert training.encode(caption) == theirs(tidied, add_special_tokens=False)["input_ids"], caption


def test_vocab_txt_may_lack_tokens_of_the_model(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    assert read_tokenizer(tmp_path, TEXT, ids=ENC + 1).vocab_size == ENC + 1
    with pytest.raises(CheckpointError, match="take both from the same checkpoint"):
        read_tokenizer(tmp_path, TEXT, ids=10)
    added = {"[DEC]": len(VOCABULARY), "[ENC]": ENC}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "[DEC]"}, "additional_special_tokens": ["[ENC]"], "pad_token": 5})
    )
    tokenizer = read_tokenizer(tmp_path, TEXT)
    assert tokenizer.model.token_to_id("[ENC]") == ENC
    assert tokenizer.decode([*tokenizer.encode("a dog"), ENC]) == "a dog"
    assert ENC not in tokenizer.encode("[ENC]")


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """Write vocab.json and merges.txt in the format of RoBERTa and BART."""
    trained = json.loads(train_tokenizer(CAPTIONS * 9, 320, lowercase=False).to_json())["model"]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    learnt = [
        token
        for token in sorted(trained["vocab"], key=trained["vocab"].__getitem__)
        if token[0] != "<" or len(token) == 1
    ]
    vocab = {token: i for i, token in enumerate([*special, *learnt, "<mask>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in trained["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}])
def test_vocab_and_merges_give_robertas_ids(roberta: Path, settings: dict[str, Any]) -> None:
    from transformers import RobertaTokenizerFast

    (roberta / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = RobertaTokenizerFast.from_pretrained(roberta, **settings)
    ours = read_tokenizer(roberta, TextConfig(bos_id=2, eos_id=2, pad_id=1, lowercase=False))
    for caption in CAPTIONS[:-1]:
        caption = tidy(caption, lowercase=False)
        ids = theirs(caption, add_special_tokens=False)["input_ids"]
        assert ours.encode(caption) == ids, caption
        assert ours.decode(ids) == caption
    mask = ours.model.token_to_id("<mask>")
    assert ours.decode([*ours.encode("a dog"), 0, 3, mask]) == "a dog"
    assert ours.pieces[mask] == ours.pieces[0] == ours.pieces[3] == b""
    assert mask not in ours.encode("<mask>")


def test_added_tokens_of_the_config_are_special_or_text(roberta: Path) -> None:
    size = len(json.loads((roberta / "vocab.json").read_text()))
    listed = {str(size): {"content": "<a>", "special": True}, str(size + 1): {"content": "<b>", "special": False}}
    (roberta / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    tokenizer = read_tokenizer(roberta, CASED)
    assert tokenizer.pieces[size:] == (b"", b"<b>")


@pytest.mark.parametrize("number", [3, 10**6, "x", None])
def test_added_tokens_out_of_place(roberta: Path, number: object) -> None:
    (roberta / "added_tokens.json").write_text(json.dumps({"<new>": number}))
    with pytest.raises(CheckpointError, match=r"ids that are not numbers|its place is \d+; save the tokenizer"):
        read_tokenizer(roberta, CASED)


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model"])
def test_sentencepiece_alone_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00")
    with pytest.raises(CheckpointError, match=f"{name} in .* SentencePiece.*which writes tokenizer.json") as caught:
        read_tokenizer(tmp_path, CASED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("vocabulary", "settings"),
    [
        ("the 120\nof 100\n", {}),
        ("", {}),
        ("[UNK]\na\n", {"unk_token": "<unk>"}),
        ("[UNK]\na\n", {"tokenizer_class": "BertJapaneseTokenizer"}),
    ],
)
def test_vocab_txt_of_another_kind(vocabulary: str, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(vocabulary)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"not a vocabulary of BERT's WordPiece.*tokenizer\.json"):
        read_tokenizer(tmp_path, CASED)


def test_damaged_files_give_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
    with pytest.raises(CheckpointError, match=r"vocab\.txt cannot be read"):
        read_tokenizer(tmp_path, CASED)
    write_vocabulary(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text("[]")
    with pytest.raises(CheckpointError, match="must contain a JSON object"):
        read_tokenizer(tmp_path, CASED)
