"""Captions to token ids and back: byte-level BPE, so no language and no word is unknown."""

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
    """Byte-level BPE writes every byte as a printable character: itself, or the next free one from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + place): b for place, b in enumerate(others)}


_BYTES = _byte_alphabet()
UNSPACED_LANGUAGES = ("zh", "ja", "th")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
FEWEST_TEXTS = 7 / 8  # of the ids of a model
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])")


def tidy(caption: str, *, lowercase: bool) -> str:
    """The form in which captions are learnt: single spaces, none before a mark, no full stop at the end.

    Datasets disagree about these; the words are left alone.
    """
    caption = _SPACE_BEFORE_MARK.sub(r"\1", " ".join(caption.split())).rstrip(".。 ")
    return caption.lower() if lowercase else caption


class CaptionTokenizer:
    """A Hugging Face ``tokenizers`` model with the ids that start, end and fill a caption."""

    def __init__(self, model: Tokenizer, config: TextConfig, padded: int = 0) -> None:
        model.encode_special_tokens = True  # a caption that says "<eos>" means these five characters
        self.model, self.config = model, config
        self._padded = padded  # V of a model with more ids than there are texts

    @property
    def vocab_size(self) -> int:
        """V: the number of ids, special ones included."""
        return max(int(self.model.get_vocab_size()), self._padded)

    def encode(self, caption: str) -> list[int]:
        """Ids of the caption's text alone, without start and end.

        Raises ``UsageError`` for what is no text: bytes that are not UTF-8, as a command line passes them on.
        """
        if not is_text(caption):
            raise UsageError(f"{caption[:40]!r} holds bytes that are not UTF-8; write the words in UTF-8")
        return list(self.model.encode(tidy(caption, lowercase=self.config.lowercase), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the first end token; start, end and fill are never part of it."""
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
        """What each of the V tokens adds to the text, in UTF-8, perhaps part of a character; special ones nothing."""
        config = self.config
        special = {config.bos_id, config.eos_id, config.pad_id, *config.languages.values()}
        special |= {token for token, added in self.model.get_added_tokens_decoder().items() if added.special}
        written = [self.model.id_to_token(token) or "" for token in range(self.vocab_size)]
        return tuple(
            b"" if token in special else bytes(_BYTES[c] for c in text) if _BYTES.keys() >= set(text) else text.encode()
            for token, text in enumerate(written)
        )

    def language_of(self, caption: str) -> str:
        """Return the language that ``caption`` is written in, by its script; empty for a captioner of one language.

        A caption is Chinese or Japanese where it holds characters of theirs and the captioner writes such a language;
        every other caption is of the default language.
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
        """Return the captions in ``language`` (empty: the default one), or all of them where none is."""
        start = self.config.speaking(language).bos_id
        return tuple(caption for caption in captions if self.start_of(caption) == start) or tuple(captions)

    def to_json(self) -> str:
        """The content of ``tokenizer.json``."""
        return str(self.model.to_str())

    @classmethod
    def from_json(cls, text: str, config: TextConfig, *, ids: int | None = None) -> CaptionTokenizer:
        """Build the tokenizer that ``to_json`` wrote, for a model of so many ``ids`` where their number is known.

        A model may have some ids more than there are texts: sizes are rounded up for speed. Raises ``CheckpointError``
        when ``text`` is not a tokenizer, or is that of a model of another size.
        """
        from tokenizers import Tokenizer

        try:
            model = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(
                f"tokenizer.json is not a Hugging Face tokenizers file: {reason_of(error)}"
            ) from error
        if ids is not None:
            found = 1 + max(model.get_vocab(with_added_tokens=True).values(), default=-1)
            if not FEWEST_TEXTS * ids <= found <= ids:
                raise CheckpointError(
                    f"tokenizer.json has {found} tokens and the model {ids}; take both files from the same checkpoint"
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
    """Byte-level BPE (Sennrich et al. 2016 on bytes) over the captions; a word has one form at every place.

    Where ``words`` is not ``ptb``, or a language writes no blanks, whole captions would become single tokens: there a
    token is at most one character. Every language but the first one gets a start token of its own.

    The vocabulary holds the 256 bytes and the special tokens at least, whatever ``vocab_size`` says.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    blanks = words == "ptb" or any(name not in UNSPACED_LANGUAGES for name in languages)
    unspaced = words != "ptb" or any(name in UNSPACED_LANGUAGES for name in languages)
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=blanks)
    apart = pre_tokenizers.Split(Regex("[\u00e0-\u00ef]..|\u00f0..."), "isolated")  # 3 or 4 bytes: beyond U+07FF
    model.pre_tokenizer = pre_tokenizers.Sequence([in_bytes, apart]) if unspaced else in_bytes
    model.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", *(f"<{name}>" for name in languages[1:])]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator((tidy(caption, lowercase=lowercase) for caption in captions), trainer)
    starts = {name: 1 if place == 0 else 2 + place for place, name in enumerate(languages)}
    return CaptionTokenizer(
        model, TextConfig(pad_id=0, bos_id=1, eos_id=2, lowercase=lowercase, words=words, languages=starts)
    )
