"""Opening an ONNX export as a captioner that is ready to caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.files import EXPORT, read_text, require_regular
from captioner.checkpoint.locate import export_settings
from captioner.config import CaptionerConfig, GenerationConfig, from_dict
from captioner.errors import CheckpointError, ConfigError, UsageError, quoted, reason_of, require
from captioner.inference.checkpoint import PreparedCheckpoint
from captioner.inference.onnx.layout import (
    FORMAT,
    LABELS,
    LOGITS,
    MEMORY,
    PATCHES,
    PIXELS,
    STATES,
    SUFFIXES,
    TOKENS,
    OnnxPrecision,
    cache_names,
    decoder_file,
    encoder_file,
)
from captioner.inference.onnx.model import OnnxModel
from captioner.inference.precision import Precision
from captioner.system.process import plain_defaults, survive_forks
from captioner.text import CaptionTokenizer


@plain_defaults()
def open_export(directory: Path, precision: Precision, device: str | None = None) -> PreparedCheckpoint:
    """Open the export in ``directory``, in fp32 or int8.

    Raises ``MissingExtraError`` without ONNX Runtime, ``UsageError`` for a device or precision that it has not, and
    ``CheckpointError`` if its files are missing, damaged, of another captioner or an export to torch.
    """
    settings = export_settings(directory)
    require("onnxruntime", "onnx", f"the ONNX export {directory}")
    if precision not in SUFFIXES:
        raise UsageError(f"an ONNX export runs in fp32 or int8, not {precision}; choose one of them")
    if not _is_cpu(device):
        raise UsageError(f"an ONNX export runs on the CPU, not on {device}; leave out the device")
    if settings.get("format") != FORMAT:
        raise CheckpointError(
            f"{directory} is an export of format {quoted(settings.get('format'))}, not {FORMAT}; export it again, or "
            "update captioner"
        )
    try:
        config = from_dict(CaptionerConfig, _mapping(settings.get("config")))
        generation = from_dict(GenerationConfig, _mapping(settings.get("generation")))
        grid, prefix = _image(settings.get("image"))
        training = _mapping(settings.get("training", {}))
    except ConfigError as error:
        raise CheckpointError(f"{directory / EXPORT}: {error}") from error
    survive_forks()  # no module of torch's that would ask for it is made
    card = read_text(directory / "README.md") if (directory / "README.md").exists() else ""
    tokenizer = read_text(directory / "tokenizer.json")
    model = OnnxModel(
        config,
        (_encoder(directory, precision, config, prefix + grid[0] * grid[1]), _decoder(directory, precision, config)),
        grid=grid,
        prefix=prefix,
        precision=precision,
    )
    return PreparedCheckpoint(
        model=model.eval(),
        tokenizer=CaptionTokenizer.from_json(tokenizer, config.text, ids=config.decoder.vocab_size),
        generation=generation,
        training=training,
        card=card,
        source=str(directory.resolve()),
        base=None,
        device="cpu",
        kept=None,
    )


def _is_cpu(device: str | torch.device | None) -> bool:
    try:
        return device is None or torch.device(device).type == "cpu"
    except (RuntimeError, TypeError):  # no name of a device
        return False


def _encoder(directory: Path, precision: OnnxPrecision, config: CaptionerConfig, tokens: int) -> Any:
    """Return the session of the encoder. Raises ``CheckpointError`` if its graph is not one of ``config``."""
    path = encoder_file(directory, precision)
    session, size, decoder = _session(path), config.preprocess.size, config.decoder
    expected = {PIXELS: [3, size, size], STATES: [tokens, 2 * decoder.layers * decoder.heads_width]}
    expected[PATCHES] = [tokens, config.patch_width]
    if config.labels is not None:
        expected[LABELS] = [len(config.labels.words)]
    if {each.name: each.shape[1:] for each in (*session.get_inputs(), *session.get_outputs())} != expected:
        raise CheckpointError(f"{path} does not fit {EXPORT}; take all files from the same export")
    return session


def _decoder(directory: Path, precision: OnnxPrecision, config: CaptionerConfig) -> Any:
    """Return the session of the decoder. Raises ``CheckpointError`` if its graph is not one of ``config``."""
    path = decoder_file(directory, precision)
    session, decoder = _session(path), config.decoder
    shape = [decoder.heads, decoder.one_head_width]
    found = {each.name: each.shape for each in session.get_inputs()}
    expected = {TOKENS, MEMORY, *cache_names(decoder.layers, "past_key_values")}
    sizes = [
        [each[1], each[3]] for name, each in found.items() if name.startswith("past_key_values") and len(each) == 4
    ]
    logits = [each.shape[-1] for each in session.get_outputs() if each.name == LOGITS]
    if found.keys() != expected or sizes != [shape] * (2 * decoder.layers) or logits != [decoder.vocab_size]:
        raise CheckpointError(f"{path} does not fit {EXPORT}; take all files from the same export")
    return session


def _session(path: Path) -> Any:
    """Return a session of ONNX Runtime. Raises ``CheckpointError`` if the file is missing or damaged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; it warns of each initializer that no node reads
    try:
        require_regular(path)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each status
        raise CheckpointError(
            f"{path} is missing or damaged ({reason_of(error)}); export the captioner again"
        ) from error


def _mapping(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"config, generation and training must be objects, not {quoted(values)}")
    return values


def _image(values: Any) -> tuple[tuple[int, int], int]:
    """Return the grid and the prefix of an encoded image."""
    image = _mapping(values)
    sizes = [*image.get("grid", []), image.get("prefix")] if isinstance(image.get("grid"), list) else []
    if len(sizes) != 3 or not all(type(size) is int and size >= 0 for size in sizes):
        raise ConfigError(f"image must hold a grid of two numbers and a prefix, not {quoted(values)}")
    return (sizes[0], sizes[1]), sizes[2]
