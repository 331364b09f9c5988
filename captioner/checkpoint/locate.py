"""The directory of a checkpoint, from its name; a checkpoint of Hugging Face is converted first, once."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from captioner.checkpoint.directory import save
from captioner.checkpoint.files import (
    EXPORT,
    FILES,
    HUB_ID,
    SHIPPED,
    SHIPPED_NAME,
    WEIGHTS,
    download,
    read_json,
)
from captioner.errors import CheckpointError, quoted
from captioner.system.disk import set_aside

CONVERSION = 2  # to be raised with a change of the conversion: older results are then made again


def find(source: str | os.PathLike[str] | None) -> Path:
    """Return the local directory of a checkpoint; without a ``source``, of the shipped model.

    A hub id is downloaded first, unless it is cached; ``org/name@revision`` names a branch, tag or commit. A checkpoint
    of Hugging Face, local or on the hub, is converted on first use, and the result kept beside the hub's cache. Raises
    ``CheckpointError`` for other names, and for a model that cannot be converted.
    """
    if source is None:
        if not (SHIPPED / "config.json").exists():
            raise CheckpointError("this installation contains no model; reinstall captioner or name one with --model")
        return SHIPPED
    directory = Path(source)
    best = directory / "best"  # `captioner train` writes it into its --out
    # os.path: pathlib raises for a name that is too long for the file system, or holds a null byte.
    for place in (directory,) if os.path.exists(directory / "config.json") else (directory, best):
        if (kept := set_aside(place)) is not None:
            raise CheckpointError(
                f"{place} is missing, since a process died while it replaced it; the checkpoint before is complete: "
                f"rename {kept} to {place.name}"
            )
    if os.path.isdir(directory):
        directory = best if not (directory / "config.json").exists() and best.is_dir() else directory
        if (directory / EXPORT).exists():
            export_settings(directory)
            raise CheckpointError(
                f"{directory} is an ONNX export, which captions but holds no weights to train, change or push; name "
                "the checkpoint that it was made from"
            )
        return _converted(str(directory.resolve()), _stamp(directory)) if _foreign(directory) else directory
    name = os.fspath(source)
    if os.path.exists(directory) or name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"{name} is not a checkpoint directory; name a directory that `captioner train` wrote")
    return _from_hub(name)


def export_settings(directory: Path) -> dict[str, Any]:
    """Return the content of an ONNX export's captioner.json. Raises ``CheckpointError`` for an export to torch."""
    settings = read_json(directory / EXPORT)
    if settings.get("target") == "torch" or ("target" not in settings and "past" in settings):  # as older ones
        raise CheckpointError(
            f"{directory} is an export to torch, which runs without this package (examples/torch_export/caption.py); "
            "name the checkpoint that it was made from"
        )
    return settings


def find_base(source: str, *, fetched: bool = False) -> Path:
    """Return the directory of an adapter's base: ``shipped``, a directory or a hub id.

    The base of an adapter that was ``fetched`` from the hub must be on the hub too, not a directory of this machine.
    """
    if source == SHIPPED_NAME:
        return find(None)
    if not fetched:
        return find(source)
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(f"{quoted(source)} is not a hub id; ask the author of the adapter to push its base too")
    return _from_hub(source)


def _from_hub(name: str) -> Path:
    settings = download(name, ["config.json"])  # first, since a model that cannot be used may be large
    return _converted(name, settings.name) if _foreign(settings) else download(name, FILES)


def _foreign(directory: Path) -> bool:
    """Return whether a directory holds a checkpoint of Hugging Face."""
    if not (directory / "config.json").exists():
        return False
    settings = read_json(directory / "config.json")
    return "format" not in settings and "model_type" in settings


def _stamp(directory: Path) -> str:
    """Return a text that changes with the files of a directory."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in directory.iterdir())
    return repr(files)


def converted_folder() -> Path:
    """Return the folder of converted checkpoints, beside the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).parent / "captioner"


def _converted(name: str, version: str) -> Path:
    """Return the directory of the converted checkpoint ``name``, whose files are those of ``version``."""
    digest = hashlib.sha256(repr((CONVERSION, name, version)).encode()).hexdigest()[:16]
    folder = converted_folder()
    kept = folder / f"{re.sub(r'[^0-9A-Za-z.-]+', '--', name).strip('-')[-80:]}-{digest}"
    if (kept / WEIGHTS).exists():
        return kept
    from captioner.checkpoint.hugging_face import convert

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{kept}.lock"):
            if not (kept / WEIGHTS).exists():  # another process may have been faster
                print(f"converting {name}, once; the result is kept in {kept}", file=sys.stderr)
                checkpoint = convert(name)
                save(checkpoint, kept)
    except OSError as error:
        raise CheckpointError(
            f"{name} was not converted, since {folder} cannot be written ({error}); set HF_HOME to another folder, or "
            f"convert it yourself: captioner convert {name} OUT"
        ) from error
    return kept
