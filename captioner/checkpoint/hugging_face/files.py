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

from captioner.checkpoint.files import LONGEST_TEXT, download, first_line, read_json, require_regular
from captioner.checkpoint.hugging_face.vocabularies import byte_level, wordpiece
from captioner.config import Activation, TextConfig
from captioner.errors import CheckpointError, quoted
from captioner.text import CaptionTokenizer

_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "source.spm", "tokenizer.model")


ACTIVATIONS: Mapping[str, Activation] = {  # by transformers' name, its default first
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


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


def weights_and_biases(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the weight and the bias of each layer in ``names``."""
    return {f"{a}.{kind}": f"{b}.{kind}" for a, b in names.items() for kind in ("weight", "bias")}


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


def block_names(
    state: dict[str, Tensor],
    layers: int,
    prefix: str,
    block: Mapping[str, str],
    fused: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Return a decoder's names for the layers of its blocks, by theirs; fuse the ``fused`` ones in ``state``.

    ``prefix``: the name of a block, with ``{}`` for its number. ``block``: our names by theirs; ``fused``: their names
    by ours.
    """
    names: dict[str, str] = {}
    for i in range(layers):
        theirs = prefix.format(i)
        names |= {f"{theirs}.{layer}": f"blocks.{i}.{ours}" for layer, ours in block.items()}
        for ours, parts in fused.items():
            names[fuse(state, [f"{theirs}.{part}" for part in parts])] = f"blocks.{i}.{ours}"
    return names


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


def read_tokenizer(directory: Path, text: TextConfig, *, ids: int | None = None) -> CaptionTokenizer:
    """Read a checkpoint's tokenizer: tokenizer.json, or else vocab.json and merges.txt, or else BERT's vocab.txt.

    ``ids``, if known, is the vocabulary size of the model, which may have some tokens more than the files. Raises
    ``CheckpointError`` for missing or damaged files, and for a tokenizer of another model.
    """

    def exist(*names: str) -> bool:
        return all((directory / name).exists() for name in names)

    if exist("tokenizer.json"):
        content = json.dumps(read_json(directory / "tokenizer.json", most=LONGEST_TEXT))
    elif exist("vocab.json", "merges.txt"):
        content = byte_level(directory)
    elif exist("vocab.txt"):
        content = wordpiece(directory)
    elif found := next(filter(exist, _SENTENCEPIECE), None):
        raise CheckpointError(
            f"{found} in {directory} is a SentencePiece model, which cannot be read here; save the tokenizer with "
            "transformers' AutoTokenizer, which writes tokenizer.json"
        )
    else:
        raise CheckpointError(
            f"{directory} has neither tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt; save the model's "
            "tokenizer there"
        )
    tokenizer = CaptionTokenizer.from_json(content, text, ids=ids)
    tokenizer.model.no_padding()  # the file may contain settings of earlier calls
    tokenizer.model.no_truncation()
    return tokenizer
