"""A small WordPiece vocabulary in BERT's format."""

from __future__ import annotations

from pathlib import Path

from captioner.checkpoint.hugging_face.files import read_tokenizer
from captioner.config import TextConfig
from captioner.text import CaptionTokenizer

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "a",
    "the",
    "dog",
    "dogs",
    "man",
    "t",
    "shirt",
    "hat",
    "s",
    "don",
    "black",
    "and",
    "white",
    "sign",
    "says",
    "stop",
    "on",
    "beach",
    "house",
    "cat",
    "two",
    "is",
    "big",
    "of",
    "or",
    "cafe",
    "photo",
    "in",
    "skate",
    "10",
    "30",
    "3",
    "5",
    "牛",
    "一",
    "头",
    "##s",
    "##house",
    "##board",
    "##ing",
    "##t",
    "##é",
    "é",
    "run",
]
MARKS = list("'-,.:;!?\"()/$%&")
VOCABULARY = [*SPECIAL, *WORDS, *MARKS]
DEC, ENC = len(VOCABULARY), len(VOCABULARY) + 1  # rows of the model without a line in vocab.txt
TEXT = TextConfig(bos_id=DEC, eos_id=VOCABULARY.index("[SEP]"), pad_id=0)


def write_vocabulary(directory: Path) -> Path:
    """Write vocab.txt, as older BERT checkpoints have it."""
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return directory


def wordpiece(directory: Path) -> CaptionTokenizer:
    """Return the tokenizer of a checkpoint as BLIP's: lower case, and two ids more than the vocabulary."""
    return read_tokenizer(write_vocabulary(directory), TEXT, ids=ENC + 1)
