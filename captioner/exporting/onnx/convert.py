"""The graphs of a captioner as ONNX files in fp32."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captioner.errors import UsageError, reason_of
from captioner.exporting.graphs import Graphs, graphs_of
from captioner.inference.onnx.layout import (
    LABELS,
    LOGITS,
    MEMORY,
    PATCHES,
    PIXELS,
    STATES,
    TOKENS,
    cache_names,
    decoder_file,
    encoder_file,
)
from captioner.models.captioner import Captioner

OPSET = 18  # of the oldest ONNX Runtime that the extra allows


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The grid and the number of tokens before it in an encoded image."""

    grid: tuple[int, int]
    prefix: int


def write_graphs(model: Captioner, folder: Path) -> ImageShape:
    """Write the encoder and the decoder of ``model`` in fp32 into ``folder``; return the shape of an encoded image.

    Raises ``UsageError`` if a layer of the backbone has no counterpart in ONNX.
    """
    graphs = graphs_of(model)
    encoder_file(folder, "fp32").parent.mkdir()
    images = torch.export.Dim("batch_size", min=1)
    outputs = [STATES, PATCHES, *([LABELS] if graphs.encoded.labels is not None else [])]
    try:
        program = _traced(graphs.encoder, (graphs.pixels,), ([PIXELS], outputs), ({0: images},))
    except (OSError, MemoryError):  # not of the backbone
        raise
    except Exception as error:  # torch raises a class for each of the exporter's stages
        raise UsageError(
            f"the backbone {model.config.vision.backbone} cannot be exported to ONNX ({reason_of(error)}); choose a "
            "captioner with another vision.backbone"
        ) from error
    _save(program, encoder_file(folder, "fp32"))
    _save(_traced_decoder(graphs), decoder_file(folder, "fp32"))
    return ImageShape(grid=graphs.encoded.grid, prefix=graphs.encoded.prefix)


def _traced_decoder(graphs: Graphs) -> Any:
    layers = graphs.decoder.decoder.config.layers
    names = cache_names(layers, "past_key_values")
    rows, tokens = torch.export.Dim("batch_size", min=1), torch.export.Dim("sequence_length", min=1)
    past = torch.export.Dim("past_sequence_length")
    axes = {0: rows, 1: tokens}, {0: rows}, [{0: rows, 2: past} for _ in names]
    outputs = [LOGITS, *cache_names(layers, "present")]
    return _traced(graphs.decoder, graphs.step, ([TOKENS, MEMORY, *names], outputs), axes)


def _traced(graph: nn.Module, given: tuple[Any, ...], names: tuple[list[str], list[str]], axes: tuple[Any, ...]) -> Any:
    """Return the program of ``graph`` from the tensors ``given``; ``axes`` are those whose size is free."""
    with _quietly(), torch.no_grad():
        return torch.onnx.export(
            graph,
            given,
            dynamo=True,
            input_names=names[0],
            output_names=names[1],
            dynamic_shapes=axes,
            opset_version=OPSET,
            verbose=False,
        )


def _save(program: Any, path: Path) -> None:
    with _quietly():
        program.save(str(path), external_data=False)
    _strip(path)


def _strip(path: Path) -> None:
    """Drop the notes of the exporter: each node's place in Python and the shapes of all values, a megabyte."""
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:], model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter, which warns about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
