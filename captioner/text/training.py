"""Training of a tokenizer on captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from captioner.config import TextConfig, Words
from captioner.text.tokenizer import UNSPACED_LANGUAGES, CaptionTokenizer, tidy


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
