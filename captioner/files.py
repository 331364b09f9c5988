"""The files of a checkpoint: where they lie, and what they hold as plain values."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
FILES = ["*.json", "*.safetensors", "README.md"]  # a checkpoint's, in its sub-folders too; nothing else is fetched
SHIPPED = Path(__file__).parent / "weights" / "default"
SHIPPED_NAME = "shipped"  # what the model that ships is called where a name is wanted


def find(source: str | os.PathLike[str] | None) -> Path:
    """The local directory of a checkpoint; a hub id is downloaded (or taken from the cache) first.

    ``org/name@revision`` is a branch, tag or commit of it.
    """
    if source is None:
        if not (SHIPPED / "config.json").exists():
            raise CheckpointError("this installation holds no model; install captioner again or name one with --model")
        return SHIPPED
    directory = Path(source)
    if directory.is_dir():
        best = directory / "best"  # what `captioner train` leaves in its --out
        return best if not (directory / "config.json").exists() and best.is_dir() else directory
    name = os.fspath(source)
    if directory.exists() or name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"{name} is no checkpoint directory; name a directory that `captioner train` wrote")
    return download(name, FILES)


def download(name: str, files: list[str]) -> Path:
    """The local copy of those ``files`` (glob patterns) of a hub repository: from the cache, else from the net.

    ``name`` may end in ``@revision``. What is in the cache and still the newest is not fetched again; without a net, or
    with HF_HUB_OFFLINE=1, the cache alone answers. Raises ``CheckpointError`` when it cannot be had.
    """
    from huggingface_hub import constants, snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))
    except Exception as error:  # the hub's client raises a dozen kinds, offline ones among them
        remedy = "fetch it once with HF_HUB_OFFLINE=0" if constants.HF_HUB_OFFLINE else "check the name"
        raise CheckpointError(
            f"{name} is neither a directory nor to be had from the Hugging Face hub ({first_line(error)}); {remedy}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says first, in words: no further lines, no addresses, no numbers of HTTP where words follow."""
    lines = [line.strip().split(" for url")[0] for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not re.match(r"[45]\d\d (Client|Server) Error", line)]
    return [*said, *lines, type(error).__name__][0].rstrip(".:")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint. Raises ``CheckpointError`` when it is missing or no JSON object."""
    try:
        values = json.loads(read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch or save the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object; fetch or save the checkpoint again")
    return values


def read_text(path: Path) -> str:
    """A text file of a checkpoint. Raises ``CheckpointError`` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint directory") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ``CheckpointError`` when it is missing or damaged."""
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); fetch or save it again") from error


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises ``CheckpointError`` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint") from error
    return digest.hexdigest()
