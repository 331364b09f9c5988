"""A captioner as ONNX files, in the layout that transformers.js loads (``captioner.inference.onnx.layout``).

Start reading at ``write``. ``convert.py`` writes the graphs (``exporting/graphs.py``) in fp32, ``quantize.py`` in
int8, and ``settings.py`` all other files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import require

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``checkpoint`` into ``folder`` in fp32 and int8.

    Raises ``MissingExtraError`` without a package that this needs, and ``UsageError`` for a captioner that the layout
    cannot express.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "onnx", "exporting to ONNX")
    from captioner.exporting.onnx.convert import write_graphs
    from captioner.exporting.onnx.quantize import write_quantized
    from captioner.exporting.onnx.settings import check_layout, write_settings

    check_layout(checkpoint.config)
    write_settings(checkpoint, write_graphs(checkpoint.model, folder), folder)
    write_quantized(folder)
