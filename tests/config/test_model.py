"""The settings of a model's text."""

from __future__ import annotations

from dataclasses import replace

from captioner.config import TextConfig


def test_captions_in_english_count_words_as_the_coco_tools_do() -> None:
    text = TextConfig(bos_id=0, eos_id=1, pad_id=2, words="characters", languages={"en": 0, "zh": 3})
    assert [text.words_in(language) for language in ("", "en", "zh")] == ["ptb", "ptb", "characters"]
    assert replace(text, bos_id=3).words_in("") == "characters"
    assert TextConfig(bos_id=0, eos_id=1, pad_id=2, words="jieba").words_in("") == "jieba"
