"""The files of a Hugging Face checkpoint: directory, tensors, tokenizer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.files import LONGEST_TEXT, download, first_line, read_json, regular_text, require_regular
from captioner.config import TextConfig
from captioner.errors import CheckpointError, quoted
from captioner.text import CaptionTokenizer


def locate(source: str | os.PathLike[str]) -> Path:
    """Return the local directory of a checkpoint; from the hub, download only the files that the import reads.

    Raises ``CheckpointError`` for a name that is neither a directory nor available on the hub.
    """
    name = os.fspath(source)
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists() or name.partition("@")[0].count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"{name} is not a directory; give the directory or hub id of a Hugging Face checkpoint")
    directory = download(name, ["*.json", "*.txt", "model*.safetensors"])
    if not any(directory.glob("model*.safetensors")):
        directory = download(name, ["*.json", "*.txt", "pytorch_model*.bin"])
    return directory


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Read all tensors of model.safetensors or else pytorch_model.bin, also in shards, without running pickled code."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = directory / f"{name}.index.json"
        if (directory / name).exists():
            return _read_tensors(directory / name)
        if index.exists():
            files = read_json(index).get("weight_map", {})
            shards = {Path(str(shard)).name for shard in files.values()} if isinstance(files, dict) else set()
            return {k: v for shard in sorted(shards) for k, v in _read_tensors(directory / shard).items()}
    raise CheckpointError(f"{directory} has neither model.safetensors nor pytorch_model.bin; download its weights too")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
            raise TypeError("it holds other things too")
        return state
    except Exception as error:  # damaged zip, pickle with code, missing shard, not a state dict
        raise CheckpointError(
            f"{path} cannot be read as plain tensors ({first_line(error)}); download it again"
        ) from error


def rename(
    state: Mapping[str, Tensor], names: Mapping[str, str], unused: re.Pattern[str], source: object
) -> dict[str, Tensor]:
    """Rename the tensors. Raises ``CheckpointError`` for one that is neither in ``names`` nor ``unused``."""
    unknown = [name for name in state if name not in names and not unused.fullmatch(name)]
    if unknown:
        raise CheckpointError(
            f"{source} contains {unknown[0]} (and {len(unknown) - 1} more), which a captioner does not have; "
            "only plain models of the types that docs/models.md lists can be imported"
        )
    return {names[name]: value for name, value in state.items() if name in names}


def fuse(state: dict[str, Tensor], layers: Sequence[str]) -> str:
    """Concatenate the weights and biases of linear ``layers`` in ``state``, where all are present.

    Return the name of the fused layer: the first one with ``.fused``.
    """
    name = f"{layers[0]}.fused"
    for kind in ("weight", "bias"):
        parts = [f"{layer}.{kind}" for layer in layers]
        if all(part in state for part in parts):
            state[f"{name}.{kind}"] = torch.cat([state.pop(part) for part in parts])  # (n D, D') or (n D,)
    return name


def require(values: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]], source: object) -> None:
    """Check settings that change the result; the first supported value is transformers' default.

    Raises ``CheckpointError`` naming a setting that has no counterpart here.
    """
    for name, known in supported.items():
        if values.get(name, known[0]) not in known:
            raise CheckpointError(
                f"{source} has {name} {quoted(values[name])}, which cannot be imported; "
                f"only models with {' or '.join(map(str, known))} can"
            )


def read_tokenizer(directory: Path, text: TextConfig) -> CaptionTokenizer:
    """Read the tokenizer of a checkpoint: tokenizer.json, or else GPT-2's vocab.json and merges.txt.

    Raises ``CheckpointError`` for missing or damaged files.
    """
    if (directory / "tokenizer.json").exists():
        content = json.dumps(read_json(directory / "tokenizer.json", most=LONGEST_TEXT))
    elif (directory / "vocab.json").exists() and (directory / "merges.txt").exists():
        content = _byte_level(directory)
    else:
        raise CheckpointError(
            f"{directory} has neither tokenizer.json nor vocab.json and merges.txt; save the model's tokenizer there"
        )
    tokenizer = CaptionTokenizer.from_json(content, text)
    tokenizer.model.no_padding()  # the file may contain settings of earlier calls
    tokenizer.model.no_truncation()
    return tokenizer


def _byte_level(directory: Path) -> str:
    """Convert GPT-2's older tokenizer files to the format of tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    def optional(name: str) -> dict[str, Any]:
        return read_json(directory / name) if (directory / name).exists() else {}

    vocab, added = read_json(directory / "vocab.json", most=LONGEST_TEXT), optional("added_tokens.json")
    try:
        lines = regular_text(directory / "merges.txt", most=LONGEST_TEXT).split("\n")
        pairs = (line.split() for line in lines if line and not line.startswith("#version"))
        model = Tokenizer(models.BPE(vocab=vocab, merges=[(a, b) for a, b in pairs]))
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"vocab.json and merges.txt in {directory} do not fit together: {error}") from error
    prefix_space = bool(optional("tokenizer_config.json").get("add_prefix_space", False))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([token for token in ("<|endoftext|>",) if token in vocab])
    model.add_tokens(sorted(added, key=lambda token: int(added[token])))  # new ids follow the vocabulary
    return str(model.to_str())
