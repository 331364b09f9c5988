"""A captioner as two programs of ``torch.export``, which torch runs without this package.

::

    encoder.pt2      pixels (B, 3, size, size) -> states (B, S, X), patch tokens, log-odds of labels if there are any
    step.pt2         tokens (N, T), states, past -> logits (N, T, V), and the longer past
    tokenizer.json   Hugging Face tokenizers format
    captioner.json   preprocessing, special tokens, sizes of the past, decoding defaults

The past is a list of keys and values (N, H, tokens, Dh) of each layer in turn; it starts with 0 tokens. Batch, tokens
and past have any length. ``examples/torch_export/caption.py`` captions with them.
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.files import EXPORT
from captioner.config import to_dict
from captioner.errors import UsageError, reason_of
from captioner.exporting.decoding import defaults_of
from captioner.exporting.graphs import graphs_of
from captioner.text.portable import portable

FORMAT = 1


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the programs of ``checkpoint`` in fp32 for the CPU, its tokenizer and its settings into ``folder``.

    Raises ``UsageError`` for a captioner that answers questions, and for a backbone that torch cannot trace.
    """
    config = checkpoint.config
    if config.question is not None:
        raise UsageError("a captioner that answers questions cannot be exported to torch; export one that captions")
    graphs = graphs_of(checkpoint.model)
    images = torch.export.Dim("images", min=1)
    try:
        encoder = _program(graphs.encoder, (graphs.pixels,), ({0: images},))
    except (OSError, MemoryError):  # not of the backbone
        raise
    except Exception as error:  # torch raises a class for each stage of its tracing
        raise UsageError(
            f"torch cannot trace the backbone {config.vision.backbone} ({reason_of(error)}); choose a captioner with "
            "another vision.backbone"
        ) from error
    (folder / "encoder.pt2").write_bytes(encoder)
    rows, tokens, length = torch.export.Dim("rows", min=1), torch.export.Dim("tokens", min=1), torch.export.Dim("past")
    axes = {0: rows, 1: tokens}, {0: rows}, [{0: rows, 2: length} for _ in graphs.step[2]]
    (folder / "step.pt2").write_bytes(_program(graphs.decoder, graphs.step, axes))
    (folder / "tokenizer.json").write_text(str(portable(checkpoint.tokenizer).to_str()), encoding="utf-8")
    text = json.dumps(settings(checkpoint), indent=2, ensure_ascii=False) + "\n"
    (folder / EXPORT).write_text(text, encoding="utf-8")


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return captioner.json; ``max_tokens`` counts the prefix and the end token, and not the start token."""
    config, defaults = checkpoint.config, defaults_of(checkpoint)
    text = defaults.text
    return {
        "format": FORMAT,
        "target": "torch",
        "torch": torch.__version__,
        "preprocess": to_dict(config.preprocess),
        "text": {
            "bos_id": text.bos_id,
            "eos_id": text.eos_id,
            "pad_id": text.pad_id,
            "languages": dict(text.languages),
        },
        "past": {
            "tensors": 2 * config.decoder.layers,
            "heads": config.decoder.heads,
            "width": config.decoder.one_head_width,
        },
        "labels": list(config.labels.words) if config.labels is not None else [],
        "generation": {
            "prefix": list(defaults.prefix),
            "max_tokens": defaults.most,
            "min_tokens": defaults.least,
            "no_repeat_ngram": defaults.no_repeat_ngram,
        },
    }


def _program(graph: nn.Module, given: tuple[Any, ...], axes: tuple[Any, ...]) -> bytes:
    """Return the file of ``graph``, traced with the tensors ``given``; ``axes`` are those whose size is free.

    In memory first: torch aborts the process when it cannot write a file.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        program = torch.export.export(graph, given, dynamic_shapes=axes, strict=False)
        torch.export.save(program, file)
    return file.getvalue()
