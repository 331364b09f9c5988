"""The caption tokenizer: byte-level BPE, in which no word is unknown, or the WordPiece or Unigram of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from captioner.config import TextConfig, is_text
from captioner.errors import CheckpointError, UsageError, reason_of
from captioner.text.pieces import kind_of, pieces_of
from captioner.text.punctuation import joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNSPACED_LANGUAGES = ("zh", "ja", "th")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
FEWEST_TEXTS = 7 / 8  # smallest share of a model's ids that the tokenizer must cover
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])")


def tidy(caption: str, *, lowercase: bool) -> str:
    """Normalise a caption for training: single spaces, none before punctuation, no full stop at the end.

    Datasets differ in these; the words stay as they are.
    """
    caption = _SPACE_BEFORE_MARK.sub(r"\1", " ".join(caption.split())).rstrip(".。 ")
    return caption.lower() if lowercase else caption


def language_of(caption: str, languages: Iterable[str]) -> str:
    """Return the one of ``languages`` that ``caption`` is in, judged by its script; empty without languages.

    A caption in an unspaced script (Chinese, Japanese, Thai) is in the first unspaced language, if there is one; every
    other caption is in the first language.
    """
    names = tuple(languages)
    unspaced = next((name for name in names if name in UNSPACED_LANGUAGES), None)
    return unspaced if unspaced and _UNSPACED.search(caption) else next(iter(names), "")


class CaptionTokenizer:
    """A Hugging Face ``tokenizers`` model with the special tokens of captions.

    ::

        tokenizer = train_tokenizer(captions, vocab_size=8192)
        ids = tokenizer.encode("a dog on a beach")  # without start and end token
        tokenizer.decode(ids)  # "a dog on a beach"
    """

    def __init__(self, model: Tokenizer, config: TextConfig, padded: int = 0) -> None:
        model.encode_special_tokens = True  # "<eos>" in a caption means these five characters
        self.model, self.config = model, config
        self._padded = padded  # V of a model with more ids than the tokenizer

    @property
    def vocab_size(self) -> int:
        """The number V of ids, including special tokens."""
        return max(int(self.model.get_vocab_size()), self._padded)

    def encode(self, caption: str) -> list[int]:
        """Return the ids of a caption, without start and end token.

        Raises ``UsageError`` for bytes that are not UTF-8, which a command line may pass on.
        """
        if not is_text(caption):
            raise UsageError(f"{caption[:40]!r} holds bytes that are not UTF-8; write the words in UTF-8")
        return list(self.model.encode(tidy(caption, lowercase=self.config.lowercase), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text up to the first end token, without special tokens."""
        config = self.config
        kept: list[int] = []
        for token in ids:
            if token == config.eos_id and (kept or config.eos_id != config.bos_id):
                break
            if token not in (config.bos_id, config.eos_id, config.pad_id, *config.languages.values()):
                kept.append(int(token))
        if self.is_raw:
            return b"".join(self.written(kept)).decode(errors="replace").strip()
        return str(self.model.decode(kept, skip_special_tokens=True)).strip()

    @cached_property
    def is_raw(self) -> bool:
        """True if ``pieces`` have a space around each punctuation mark, which ``written`` removes again."""
        return kind_of(self.model) == "wordpiece"

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each of the V tokens adds to the text, maybe part of a character; b"" if special.

        With WordPiece it is the raw text, in which every word and every punctuation mark begins with a space.
        """
        config = self.config
        special = {config.bos_id, config.eos_id, config.pad_id, *config.languages.values()}
        special |= {token for token, added in self.model.get_added_tokens_decoder().items() if added.special}
        return pieces_of(self.model, self.vocab_size, special)

    def written(self, tokens: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes that each token adds to the text as people write it, as soon as they are certain."""
        pieces = (self.pieces[token] for token in tokens)
        return joined(pieces) if self.is_raw else pieces

    def raw(self, text: str) -> str:
        """Return ``text`` in the form of ``pieces``: with WordPiece words and marks apart, otherwise unchanged."""
        if not self.is_raw:
            return text
        normal = self.model.normalizer.normalize_str(text) if self.model.normalizer else text
        if self.model.pre_tokenizer is None:
            return normal
        return " ".join(word for word, _ in self.model.pre_tokenizer.pre_tokenize_str(normal))

    @cached_property
    def joiners(self) -> frozenset[int]:
        """The tokens of hyphens and apostrophes that join two words, although ``pieces`` put a space before them."""
        marks = (b" -", b" '", " \u2019".encode())
        return frozenset(token for token, piece in enumerate(self.pieces) if self.is_raw and piece in marks)

    def with_config(self, config: TextConfig) -> CaptionTokenizer:
        """Return the same tokenizer with other special tokens or another case of text."""
        return CaptionTokenizer(self.model, config, self._padded)

    def language_of(self, caption: str) -> str:
        """Return the language of ``caption``, judged by its script; empty for a captioner of one language."""
        return language_of(caption, self.config.languages)

    def start_of(self, caption: str) -> int:
        """Return the start token of the language that ``caption`` is written in."""
        return self.config.languages.get(self.language_of(caption), self.config.bos_id)

    def start_of_ids(self, ids: Sequence[int]) -> int:
        """Return the start token of the language that the caption of these ``ids`` is written in."""
        return self.start_of(self.decode(ids)) if self.config.languages else self.config.bos_id

    def captions_in(self, language: str, captions: Sequence[str]) -> tuple[str, ...]:
        """Return the captions in ``language`` (empty: the default one), or all captions if there are none."""
        start = self.config.speaking(language).bos_id
        return tuple(caption for caption in captions if self.start_of(caption) == start) or tuple(captions)

    def to_json(self) -> str:
        """Return the content of ``tokenizer.json``."""
        return str(self.model.to_str())

    @classmethod
    def from_json(cls, text: str, config: TextConfig, *, ids: int | None = None) -> CaptionTokenizer:
        """Build the tokenizer that ``to_json`` wrote; ``ids``, if known, is the vocabulary size of the model.

        A model may have some ids more than the tokenizer, since its size is rounded up for speed. Raises
        ``CheckpointError`` if ``text`` is not a tokenizer, or belongs to a model of another size.
        """
        from tokenizers import Tokenizer

        try:
            model = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(
                f"tokenizer.json is not a Hugging Face tokenizers file: {reason_of(error)}"
            ) from error
        if ids is not None:
            size = 1 + max(model.get_vocab(with_added_tokens=True).values(), default=-1)
            if not FEWEST_TEXTS * ids <= size <= ids:
                raise CheckpointError(
                    f"the tokenizer has {size} tokens and the model {ids}; take both from the same checkpoint"
                )
        return cls(model, config, ids or 0)
