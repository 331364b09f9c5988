"""Finding, downloading and reading the files of a checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.packing import unpacked, unpacked_shapes
from captioner.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
EXPORT = "captioner.json"  # in a directory that `captioner export --to onnx` wrote
FILES = ["*.json", "*.safetensors", "README.md"]  # the files to download, from subdirectories too
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
LONGEST_SETTINGS = 16 << 20  # bytes of a JSON file that is not a tokenizer
LONGEST_TEXT = 128 << 20  # bytes of any other file but weights
DEEPEST = 64  # levels of lists and objects in a JSON file
SHIPPED = Path(__file__).parents[1] / "weights" / "default"
SHIPPED_NAME = "shipped"  # the name of the model that ships with the package


def download(name: str, files: list[str]) -> Path:
    """Return the local directory of the ``files`` (glob patterns) of a hub repository, downloading what is not cached.

    ``name`` may end in ``@revision``. Offline, or with HF_HUB_OFFLINE=1, only the cache is used. Raises
    ``CheckpointError`` if the repository cannot be downloaded.
    """
    from huggingface_hub import constants, snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))
    except Exception as error:  # huggingface_hub raises a dozen classes, some for being offline
        remedy = "download it once with HF_HUB_OFFLINE=0" if constants.HF_HUB_OFFLINE else "check the name"
        raise CheckpointError(
            f"{name} is not a directory and cannot be downloaded from the Hugging Face hub ({first_line(error)}); "
            f"{remedy}"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without its URL; skip an HTTP status line if others follow."""
    lines = [line.strip().split(" for url")[0] for line in str(error).splitlines() if line.strip()]
    explanations = [line for line in lines if not re.match(r"[45]\d\d (Client|Server) Error", line)]
    return [*explanations, *lines, type(error).__name__][0].rstrip(".:")


def read_json(path: Path, *, most: int = LONGEST_SETTINGS) -> dict[str, Any]:
    """Read a JSON object from a checkpoint. Raises ``CheckpointError`` if it is missing or not a JSON object."""
    try:
        values = json.loads(read_text(path, most=most))
        deep = _is_deep(values)
    except RecursionError:
        deep = True
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download or save the checkpoint again") from error
    if deep:
        raise CheckpointError(
            f"{path} is nested more than {DEEPEST} levels deep; download or save the checkpoint again"
        )
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must contain a JSON object; download or save the checkpoint again")
    return values


def _is_deep(values: object) -> bool:
    level = [values]
    for _ in range(DEEPEST):
        inner = (list(value.values()) if isinstance(value, dict) else value for value in level)
        level = [item for value in inner if isinstance(value, list) for item in value]
        if not level:
            return False
    return True


def read_text(path: Path, *, most: int = LONGEST_TEXT) -> str:
    """Read a text file of a checkpoint. Raises ``CheckpointError`` if it cannot be read."""
    try:
        return regular_text(path, most=most)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint directory") from error


def regular_text(path: Path, *, most: int) -> str:
    """Read a UTF-8 file of at most ``most`` bytes; line ends become ``\\n``.

    Raises ``OSError`` for anything but a regular file (a pipe or device never ends), and ``ValueError`` if it is too
    long or not UTF-8.
    """
    require_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is longer than {most >> 20} MiB")
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def require_regular(path: Path) -> None:
    """Raise ``OSError`` unless ``path`` is a regular file or a symlink to one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a safetensors file, packed or not. Raises ``CheckpointError`` if it is missing or damaged."""
    import safetensors
    from safetensors.torch import load_file

    try:
        require_regular(path)
        return unpacked(load_file(path), path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); download or save it again") from error


def read_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Read the shapes of the weights, by name, from the header of a safetensors file, packed or not.

    Raises ``CheckpointError`` if it is missing or damaged.
    """
    import safetensors

    try:
        require_regular(path)
        with safetensors.safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            header = {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
        return unpacked_shapes(header, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); download or save it again") from error


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises ``CheckpointError`` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        require_regular(path)
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint") from error
    return digest.hexdigest()
