"""A captioner as ONNX files, in the layout that transformers.js loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import require

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the files of ``checkpoint`` into ``folder``."""
    require("onnx", "onnx", "exporting to ONNX")
    raise NotImplementedError
