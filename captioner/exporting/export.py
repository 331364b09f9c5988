"""One function that writes any target, complete or not at all."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

from captioner.checkpoint import merged
from captioner.errors import OutputError, UsageError
from captioner.system.disk import partial_folder, replace_folder

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint, Restorable

Target = Literal["onnx", "transformers", "torch"]
TARGETS: dict[Target, str] = {
    "onnx": "captioner.exporting.onnx",
    "transformers": "captioner.exporting.transformers",
    "torch": "captioner.exporting.torch_programs",
}
"""The module of each target, imported when it is asked for. Its function ``write`` is a ``Write``."""


class Write(Protocol):
    """The function ``write`` of a target."""

    def __call__(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Write all files of ``checkpoint``, in eval mode and without an adapter, into the empty ``folder``.

        Raises ``UsageError`` for a captioner that the format cannot express, by the name of what it lacks, and
        ``MissingExtraError`` without a package that it needs; both before the long work.
        """


def export(captioner: Restorable, out: str | os.PathLike[str], *, to: Target) -> Path:
    """Write a captioner into the new directory ``out`` in the format of another program; return the directory.

    ::

        captioner.export(captioner.load(), "captioner-onnx", to="onnx")

    Nothing appears under ``out`` before all files are complete. Raises ``UsageError`` if ``out`` is taken or if the
    format cannot express the captioner, ``MissingExtraError`` without a package that the format needs, and
    ``OutputError`` if the files cannot be written.
    """
    if to not in TARGETS:
        raise UsageError(f"unknown target {to!r}; choose one of {', '.join(get_args(Target))}")
    from safetensors import SafetensorError

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already and is not an empty directory; choose another OUT")
    write = cast(Write, importlib.import_module(TARGETS[to]).write)
    checkpoint = merged(captioner.original())
    partial = partial_folder(out)
    try:
        partial.mkdir(parents=True)
        write(checkpoint, partial)
        replace_folder(partial, out)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {out}: {error}; free some space or choose another OUT") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
    return out
