"""The caption tokenizer, its training, and the way from tokens to text as people write it."""

from captioner.text.tokenizer import CaptionTokenizer, language_of, tidy
from captioner.text.training import train_tokenizer

__all__ = ["CaptionTokenizer", "language_of", "tidy", "train_tokenizer"]
