"""A tokenizer for other programs prepares and decodes as ours does, by its file alone."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from captioner.text import train_tokenizer
from captioner.text.portable import adds_space, names_of, portable

CAPTIONS = ["a dog on a beach", "two dogs, a cat", "红色的圆"]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize(
    "caption", ["a dog on a beach", "A  Dog ,on\ta beach . ", " Two dogs! ", "红色的圆。", "", "...", "it's <eos> 'x'"]
)
def test_prepares_and_decodes_as_ours(caption: str, lowercase: bool) -> None:
    ours = train_tokenizer(CAPTIONS, 300, lowercase=lowercase, languages=("en", "zh"))
    theirs = Tokenizer.from_str(portable(ours).to_str())
    theirs.encode_special_tokens = True
    ids = theirs.encode(caption).ids
    assert ids == [*ours.encode(caption), ours.config.eos_id]
    assert theirs.decode(ids) == ours.decode(ids)


def test_names_of_special_tokens() -> None:
    assert names_of(train_tokenizer(CAPTIONS, 300)) == {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>"}


def test_tells_of_the_space_before_the_first_word() -> None:
    """transformers 4 would drop it and encode the first word as another one."""
    assert adds_space(train_tokenizer(CAPTIONS, 300))
    assert not adds_space(train_tokenizer(CAPTIONS, 300, languages=("en", "zh")))  # a sequence, which it leaves alone
