"""Smaller vocabularies: a tokenizer without the tokens that no text of a corpus needs.

The corpus keeps its tokens. In BPE a word is merged step by step, so the parts of a kept token, and the merges between
kept tokens, stay in their order: a merge that was never applied to a text is never its next one. WordPiece takes the
longest piece in the vocabulary, and Unigram the most probable split; both stay the same if their pieces stay. Other
texts may have more tokens than before. Bytes, characters of ASCII and special tokens stay, so that most of them can
still be written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from captioner.config import TextConfig
from captioner.errors import CheckpointError
from captioner.text.tokenizer import CaptionTokenizer

_BYTE = re.compile("<0x[0-9A-F]{2}>")  # a byte in a vocabulary with ▁


def needed(tokenizer: CaptionTokenizer, captions: Iterable[str], *, least: int = 1) -> frozenset[int]:
    """Return the ids that ``captions`` use ``least`` times, with the parts that make them and those that must stay."""
    counts = Counter(token for caption in captions for token in tokenizer.encode(caption))
    used = {token for token, count in counts.items() if count >= least}
    return with_parts(tokenizer, used)


def with_parts(tokenizer: CaptionTokenizer, used: Collection[int]) -> frozenset[int]:
    """Return the ids ``used``, their parts in BPE, and the special tokens, bytes and characters that must stay."""
    values = json.loads(tokenizer.to_json())
    model, vocab = values["model"], _vocab(values["model"])
    keep = {*used, *special_ids(tokenizer.config), *(int(token["id"]) for token in values.get("added_tokens") or ())}
    names = {number: name for name, number in vocab.items()}
    prefix = model.get("continuing_subword_prefix") or ""
    if model["type"] == "BPE":
        parts: dict[str, list[tuple[str, str]]] = {}
        for first, second in _merges(model):
            parts.setdefault(first + second.removeprefix(prefix), []).append((first, second))
        keep |= {number for name, number in vocab.items() if name not in parts}  # bytes or characters
        waiting = list(keep)
        while waiting:
            for part in (part for pair in parts.get(names.get(waiting.pop(), ""), ()) for part in pair):
                if vocab[part] not in keep:
                    keep.add(vocab[part])
                    waiting.append(vocab[part])
    else:
        small = (name for name in vocab if len(name.removeprefix(prefix)) == 1 and name.isascii())
        keep |= {vocab[name] for name in small} | {vocab[name] for name in vocab if _BYTE.fullmatch(name)}
    unknown = model.get("unk_token")
    if isinstance(unknown, str) and unknown in vocab:
        keep.add(vocab[unknown])
    if isinstance(model.get("unk_id"), int):
        keep.add(model["unk_id"])
    return frozenset(keep)


def trimmed(tokenizer: CaptionTokenizer, keep: Collection[int]) -> tuple[CaptionTokenizer, Mapping[int, int]]:
    """Return the tokenizer with the ids ``keep`` alone, and their new ids: the same order, without gaps.

    Raises ``CheckpointError`` for a kind of tokenizer that cannot be cut.
    """
    places = {old: new for new, old in enumerate(sorted(keep))}
    values = json.loads(tokenizer.to_json())
    model = values["model"]
    vocab = _vocab(model)
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in places]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    else:
        model["vocab"] = {name: places[number] for name, number in vocab.items() if number in places}
    if model["type"] == "BPE":
        kept, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            [first, second]
            for first, second in _merges(model)
            if first in kept and second in kept and first + second.removeprefix(prefix) in kept
        ]
    values["added_tokens"] = [
        {**token, "id": places[token["id"]]} for token in values.get("added_tokens") or () if token["id"] in places
    ]
    if values.get("padding"):
        values["padding"]["pad_id"] = places.get(values["padding"]["pad_id"], 0)
    values["post_processor"] = None  # it adds start and end tokens, which a captioner adds itself
    config = placed(tokenizer.config, places)
    return CaptionTokenizer.from_json(json.dumps(values), config, ids=len(places)), places


def special_ids(config: TextConfig) -> set[int]:
    """Return the ids of the special tokens of captions."""
    ids = (config.bos_id, config.eos_id, config.pad_id, config.gap_id, config.question_id, *config.languages.values())
    return {token for token in ids if token is not None}


def placed(config: TextConfig, places: Mapping[int, int]) -> TextConfig:
    """Return the special tokens with the ids that they have in ``places``."""
    return replace(
        config,
        bos_id=places[config.bos_id],
        eos_id=places[config.eos_id],
        pad_id=places[config.pad_id],
        gap_id=None if config.gap_id is None else places[config.gap_id],
        question_id=None if config.question_id is None else places[config.question_id],
        languages={name: places[start] for name, start in config.languages.items()},
    )


def _vocab(model: Mapping[str, Any]) -> dict[str, int]:
    kind = model["type"]
    if kind == "Unigram":
        return {name: number for number, (name, _) in enumerate(model["vocab"])}
    if kind not in ("BPE", "WordPiece", "WordLevel"):
        raise CheckpointError(f"a vocabulary of the kind {kind} cannot be trimmed; leave out --vocab-from")
    return dict(model["vocab"])


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges of BPE, which older files write with a space between both parts."""
    pairs = (pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"])
    return [(str(first), str(second)) for first, second in pairs]
