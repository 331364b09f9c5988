"""A caption tokenizer for other programs: it prepares texts as ``CaptionTokenizer`` does around its model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from captioner.text.tokenizer import CaptionTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("bos", "eos", "pad")


def portable(tokenizer: CaptionTokenizer) -> Tokenizer:
    """Return a copy of the model that tidies texts, adds the end token, and decodes without a space in front.

    WordPiece keeps its own rules of spaces and of case.
    """
    from tokenizers import Regex, Tokenizer, decoders, normalizers, processors

    model, config = Tokenizer.from_str(tokenizer.to_json()), tokenizer.config
    steps = []
    if not tokenizer.is_raw:
        steps = [
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r" (?=[,.;:!?])"), ""),
            normalizers.Replace(Regex(r"[.。 ]+$"), ""),
            normalizers.Strip(left=True, right=True),
        ]
        if model.decoder is not None:
            model.decoder = decoders.Sequence([model.decoder, decoders.Strip(" ", 1, 0)])
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    if steps:
        model.normalizer = normalizers.Sequence([*steps, *([model.normalizer] if model.normalizer else [])])
    end = names_of(tokenizer)["eos"]
    model.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, config.eos_id)])
    model.no_padding()
    model.no_truncation()
    return model


def names_of(tokenizer: CaptionTokenizer) -> dict[str, str]:
    """Return the texts of the start, end and padding token."""
    return {name: str(tokenizer.model.id_to_token(getattr(tokenizer.config, f"{name}_id"))) for name in SPECIAL}


def adds_space(tokenizer: CaptionTokenizer) -> bool:
    """Return whether the first word of a text gets a space; transformers 4 sets it anew, to False if not told."""
    step = json.loads(tokenizer.to_json()).get("pre_tokenizer") or {}
    return bool(step.get("add_prefix_space", False))
