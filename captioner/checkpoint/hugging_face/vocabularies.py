"""Older tokenizer files, converted to the format of tokenizer.json: vocab.json and merges.txt, or vocab.txt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.files import LONGEST_TEXT, read_json, read_text
from captioner.errors import CheckpointError, reason_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def byte_level(directory: Path) -> str:
    """Convert vocab.json and merges.txt of GPT-2, RoBERTa or BART.

    Raises ``CheckpointError`` for damaged files and for files that do not fit together.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = read_json(directory / "vocab.json", most=LONGEST_TEXT)
    lines = read_text(directory / "merges.txt").split("\n")
    try:
        pairs = (line.split() for line in lines if line and not line.startswith("#version"))
        model = Tokenizer(models.BPE(vocab=vocab, merges=[(a, b) for a, b in pairs]))
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"vocab.json and merges.txt in {directory} do not fit together: {error}") from error
    prefix_space = bool(_optional(directory, "tokenizer_config.json").get("add_prefix_space", False))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    model.decoder = decoders.ByteLevel()
    own = _ROBERTA if vocab.get("<s>") == 0 else ("<|endoftext|>",)
    return _with_added_tokens(model, vocab, own, directory)


def wordpiece(directory: Path) -> str:
    """Convert vocab.txt of BERT: a token per line. It is in lower case unless tokenizer_config.json denies it.

    Raises ``CheckpointError`` for a vocabulary of another kind.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    settings = _optional(directory, "tokenizer_config.json")
    tokens = read_text(directory / "vocab.txt").removesuffix("\n").split("\n")
    vocab = {token: number for number, token in enumerate(tokens)}
    unknown = _content(settings.get("unk_token")) or "[UNK]"
    if unknown not in vocab or settings.get("tokenizer_class") == "BertJapaneseTokenizer":
        raise CheckpointError(
            f"vocab.txt in {directory} is not a vocabulary of BERT's WordPiece, the only kind that can be read; save "
            "the tokenizer with transformers' AutoTokenizer, which writes tokenizer.json"
        )
    model = Tokenizer(models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
    accents = settings.get("strip_accents")
    model.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=accents if isinstance(accents, bool) else None,  # None: as ``lowercase``
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece(prefix="##")
    return _with_added_tokens(model, vocab, (*_BERT, unknown), directory)


def _with_added_tokens(model: Tokenizer, vocab: Mapping[str, Any], own: Iterable[str], directory: Path) -> str:
    """Add the tokens of the checkpoint's other files, mark the special ones, and return the tokenizer.json."""
    from tokenizers import AddedToken

    named = _optional(directory, "special_tokens_map.json")
    listed = _optional(directory, "tokenizer_config.json").get("added_tokens_decoder")
    listed = (
        {key: value for key, value in listed.items() if isinstance(value, dict)} if isinstance(listed, dict) else {}
    )
    values = [one for value in named.values() for one in (value if isinstance(value, list) else [value])]
    values += [value for value in listed.values() if value.get("special")]
    special = {*own, *filter(None, map(_content, values))}
    added = {_content(value): key for key, value in listed.items()} | _optional(directory, "added_tokens.json")
    try:
        ids = {token: int(number) for token, number in added.items() if token}
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the added tokens in {directory} have ids that are not numbers ({reason_of(error)}); download them again"
        ) from error
    model.add_special_tokens(sorted(token for token in special if token in vocab))
    order = sorted(ids, key=lambda token: ids[token])
    new = [AddedToken(token, special=token in special, normalized=token not in special) for token in order]
    model.add_tokens(new)  # new ids follow the vocabulary
    wrong = next((token for token, number in ids.items() if model.token_to_id(token) != number), None)
    if wrong is not None:
        raise CheckpointError(
            f"the added token {wrong[:40]!r} in {directory} has the id {ids[wrong]}, but its place is "
            f"{model.token_to_id(wrong)}; save the tokenizer again as tokenizer.json"
        )
    return str(model.to_str())


def _optional(directory: Path, name: str) -> dict[str, Any]:
    return read_json(directory / name) if (directory / name).exists() else {}


def _content(value: object) -> str:
    """Return the text of a special token, which the files write as a string or as an object; else nothing."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
