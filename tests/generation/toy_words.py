"""A vocabulary of one token per word, in which rules on words and rules on tokens coincide."""

from __future__ import annotations

from captioner.config import TextConfig
from captioner.text import CaptionTokenizer

TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2, lowercase=False)


def toy_words(size: int) -> CaptionTokenizer:
    """Return a tokenizer of ``size`` tokens: start, end, padding, then the words a, b, c and so on."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {f"Ġ{chr(ord('a') + i)}": 3 + i for i in range(size - 3)}
    model = Tokenizer(models.WordLevel({"<bos>": 0, "<eos>": 1, "<pad>": 2, **words}, unk_token="<pad>"))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    model.decoder = decoders.ByteLevel()
    return CaptionTokenizer(model, TEXT)
