"""The bytes that each token of a tokenizer adds to a text."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["bytes", "wordpiece", "metaspace"]
"""The notations of a vocabulary: a printable character per byte, ``##`` before the continuation of a word, or ``▁``
for a space."""


def _byte_alphabet() -> dict[str, int]:
    """Return the printable character that byte-level BPE uses for each byte: itself, or the next one from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + number): b for number, b in enumerate(others)}


_BYTES = _byte_alphabet()
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a byte in a vocabulary with ▁
_NO_TEXT = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|DEC|ENC|unused\d+)\]")  # in BERT's vocabularies


def kind_of(model: Tokenizer) -> Kind:
    """Return the notation of a tokenizer's vocabulary."""
    decoder = type(model.decoder).__name__
    if decoder == "ByteLevel":
        return "bytes"
    if type(model.model).__name__ == "WordPiece":
        return "wordpiece"
    state = json.loads(model.decoder.__getstate__()) if model.decoder is not None else {}
    steps = state.get("decoders", [state])
    spaced = any(step.get("type") == "Metaspace" or step.get("pattern") == {"String": "▁"} for step in steps)
    return "metaspace" if spaced else "bytes"


def pieces_of(model: Tokenizer, size: int, special: Container[int]) -> tuple[bytes, ...]:
    """Return the UTF-8 bytes that each of the ``size`` tokens adds to a text; b"" for ``special`` tokens.

    Pieces of WordPiece tokens are those of the raw text, in which every word and mark begins with a space.
    """
    kind = kind_of(model)
    written = (model.id_to_token(token) or "" for token in range(size))
    if kind == "wordpiece":
        prefix, unknown = model.model.continuing_subword_prefix, model.model.unk_token

        def piece(text: str) -> bytes:
            if text in ("", unknown) or _NO_TEXT.fullmatch(text):
                return b""
            return (text[len(prefix) :] if prefix and text.startswith(prefix) else f" {text}").encode()

    elif kind == "metaspace":

        def piece(text: str) -> bytes:
            byte = _BYTE.fullmatch(text)
            return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode()

    else:

        def piece(text: str) -> bytes:
            return bytes(_BYTES[c] for c in text) if _BYTES.keys() >= set(text) else text.encode()

    return tuple(b"" if token in special else piece(text) for token, text in enumerate(written))
