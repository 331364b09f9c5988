"""The files of a checkpoint: where they lie, and what they hold as plain values."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import CheckpointError, quoted

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
FILES = ["*.json", "*.safetensors", "README.md"]  # a checkpoint's, in its sub-folders too; nothing else is fetched
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
LONGEST_SETTINGS = 16 << 20  # bytes of a JSON file that is not a tokenizer
LONGEST_TEXT = 128 << 20  # bytes of any other file but weights
DEEPEST = 64  # levels of lists and tables in a JSON file
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


def find_base(source: str, *, fetched: bool = False) -> Path:
    """The directory of an adapter's base: ``shipped``, a directory or a hub id.

    An adapter that was ``fetched`` from the hub may name a captioner there, and no directory of this machine.
    """
    if source == SHIPPED_NAME:
        return find(None)
    if not fetched:
        return find(source)
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"{quoted(source)} is no captioner of the hub; ask who pushed the adapter to push its base"
        )
    return download(source, FILES)


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


def read_json(path: Path, *, most: int = LONGEST_SETTINGS) -> dict[str, Any]:
    """Read a JSON object from a checkpoint. Raises ``CheckpointError`` when it is missing or no JSON object."""
    try:
        values = json.loads(read_text(path, most=most))
        deep = _is_deep(values)
    except RecursionError:
        deep = True
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch or save the checkpoint again") from error
    if deep:
        raise CheckpointError(f"{path} is nested more than {DEEPEST} levels deep; fetch or save the checkpoint again")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object; fetch or save the checkpoint again")
    return values


def _is_deep(values: object) -> bool:
    level = [values]
    for _ in range(DEEPEST):
        inner = (list(value.values()) if isinstance(value, dict) else value for value in level)
        level = [one for value in inner if isinstance(value, list) for one in value]
        if not level:
            return False
    return True


def read_text(path: Path, *, most: int = LONGEST_TEXT) -> str:
    """Read a text file of a checkpoint. Raises ``CheckpointError`` when it cannot be read."""
    try:
        return regular_text(path, most=most)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint directory") from error


def regular_text(path: Path, *, most: int) -> str:
    """Read a UTF-8 file of at most ``most`` bytes; line ends become ``\\n``.

    Raises ``OSError`` for what is no file or never ends (a pipe, a device, or a link to one), and ``ValueError`` for
    what is too long or not UTF-8.
    """
    require_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is longer than {most >> 20} MiB")
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def require_regular(path: Path) -> None:
    """Raise ``OSError`` for what is no file, nor a link to one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises ``CheckpointError`` when it is missing or damaged."""
    import safetensors
    from safetensors.torch import load_file

    try:
        require_regular(path)
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); fetch or save it again") from error


def read_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Read the shapes of the tensors of a safetensors file from its header, by their names.

    Raises ``CheckpointError`` when it is missing or damaged.
    """
    import safetensors

    try:
        require_regular(path)
        with safetensors.safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); fetch or save it again") from error


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises ``CheckpointError`` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        require_regular(path)
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint") from error
    return digest.hexdigest()
