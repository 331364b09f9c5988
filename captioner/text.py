"""The caption tokenizer: byte-level BPE, so that no word of any language is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from captioner.config import TextConfig, Words, is_text
from captioner.errors import CheckpointError, UsageError, reason_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def _byte_alphabet() -> dict[str, int]:
    """Return the printable character that byte-level BPE uses for each byte: itself, or the next one from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + number): b for number, b in enumerate(others)}


_BYTES = _byte_alphabet()
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
        return str(self.model.decode(kept, skip_special_tokens=True)).strip()

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each of the V tokens adds to the text, maybe part of a character; b"" if special."""
        config = self.config
        special = {config.bos_id, config.eos_id, config.pad_id, *config.languages.values()}
        special |= {token for token, added in self.model.get_added_tokens_decoder().items() if added.special}
        written = [self.model.id_to_token(token) or "" for token in range(self.vocab_size)]
        return tuple(
            b"" if token in special else bytes(_BYTES[c] for c in text) if _BYTES.keys() >= set(text) else text.encode()
            for token, text in enumerate(written)
        )

    def language_of(self, caption: str) -> str:
        """Return the language of ``caption``, judged by its script; empty for a captioner of one language.

        A caption in an unspaced script (Chinese, Japanese, Thai) is in the captioner's first unspaced language, if it
        has one; every other caption is in the default language.
        """
        languages = self.config.languages
        if not languages:
            return ""
        unspaced = next((name for name in languages if name in UNSPACED_LANGUAGES), None)
        return unspaced if unspaced and _UNSPACED.search(caption) else next(iter(languages))

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
                    f"tokenizer.json has {size} tokens and the model {ids}; take both files from the same checkpoint"
                )
        return cls(model, config, ids or 0)


def train_tokenizer(
    captions: Iterable[str],
    vocab_size: int,
    *,
    lowercase: bool = True,
    words: Words = "ptb",
    languages: Sequence[str] = (),
) -> CaptionTokenizer:
    """Train byte-level BPE (Sennrich et al. 2016 on bytes) on captions; a word has the same tokens at every position.

    Without spaces between words (``words`` other than ``ptb``, or an unspaced language) a whole caption would become
    one token: there a token is at most one character. Every language but the first gets its own start token.

    The vocabulary contains at least the 256 bytes and the special tokens, even for a smaller ``vocab_size``.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    spaced = words == "ptb" or any(name not in UNSPACED_LANGUAGES for name in languages)
    unspaced = words != "ptb" or any(name in UNSPACED_LANGUAGES for name in languages)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    characters = pre_tokenizers.Split(Regex("[\u00e0-\u00ef]..|\u00f0..."), "isolated")  # 3 or 4 bytes: beyond U+07FF
    model.pre_tokenizer = pre_tokenizers.Sequence([byte_level, characters]) if unspaced else byte_level
    model.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", *(f"<{name}>" for name in languages[1:])]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator((tidy(caption, lowercase=lowercase) for caption in captions), trainer)
    starts = {name: 1 if number == 0 else 2 + number for number, name in enumerate(languages)}
    return CaptionTokenizer(
        model, TextConfig(pad_id=0, bos_id=1, eos_id=2, lowercase=lowercase, words=words, languages=starts)
    )
