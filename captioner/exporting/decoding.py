"""A captioner's decoding defaults that every target writes: in tokens, within its context."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.checkpoint import Checkpoint
from captioner.config import TextConfig
from captioner.generation.rules import compile_rules


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Decoding defaults; lengths count the prefix and the end token, and not the start token."""

    text: TextConfig  # its ``bos_id`` starts a caption of the default language
    prefix: tuple[int, ...]  # the tokens after the start token
    least: int
    most: int
    no_repeat_ngram: int  # 0 for none

    @property
    def lengths(self) -> dict[str, int]:
        """The lengths as settings of transformers, whose ``max_length`` counts the start token too."""
        return {"max_length": 1 + self.most, **({"min_length": self.least} if self.least > 1 else {})}


def defaults_of(checkpoint: Checkpoint) -> Defaults:
    """Return the decoding defaults of a captioner.

    Raises ``UsageError`` for rules that no caption satisfies, ``ConfigError`` for a language that it does not write.
    """
    generation = checkpoint.generation
    return Defaults(
        text=checkpoint.config.text.speaking(generation.language),
        prefix=compile_rules(generation, checkpoint.tokenizer).prefix,
        least=generation.min_tokens,
        most=min(generation.max_tokens, checkpoint.config.decoder.context - 1),
        no_repeat_ngram=generation.rules.no_repeat_ngram,
    )
