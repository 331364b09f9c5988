"""Loading checkpoint directories, with their adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.checkpoint.directory import ADAPTER_WEIGHTS, FORMAT, PACKED_FORMAT, Base, Checkpoint
from captioner.checkpoint.files import (
    SHIPPED_NAME,
    WEIGHTS,
    fingerprint,
    read_json,
    read_shapes,
    read_text,
    read_weights,
)
from captioner.checkpoint.locate import find, find_base
from captioner.config import AdapterConfig, CaptionerConfig, GenerationConfig, from_dict
from captioner.errors import CheckpointError, ConfigError, quoted
from captioner.text import CaptionTokenizer

if TYPE_CHECKING:
    from captioner.models.captioner import Captioner

T = TypeVar("T")


def load(source: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint directory, a Hugging Face hub id (``org/name``), or by default the model that ships.

    Raises ``CheckpointError`` if it is missing, incomplete or of another format, or if its weights are damaged.
    """
    directory = find(source)
    fetched = source is not None and not Path(source).is_dir()
    config_values = read_json(directory / "config.json")
    version = config_values.pop("format", None)
    if isinstance(version, bool) or version not in (FORMAT, PACKED_FORMAT):
        raise CheckpointError(
            f"{directory} is not a captioner checkpoint of format {FORMAT} or {PACKED_FORMAT} (its format is "
            f"{quoted(version)}); use `captioner convert` for a Hugging Face model, or update captioner"
        )
    adapter_values = {key: config_values.pop(key) for key in ("adapter", "base") if key in config_values}
    config = _checked(CaptionerConfig, config_values, directory / "config.json")
    generation = _checked(GenerationConfig, read_json(directory / "generation.json"), directory / "generation.json")
    text = read_text(directory / "tokenizer.json")
    tokenizer = CaptionTokenizer.from_json(text, config.text, ids=config.decoder.vocab_size)
    base: Base | None = None
    if adapter_values:
        adapter = _checked(AdapterConfig, adapter_values.get("adapter", {}), directory / "config.json")
        base = _checked(Base, adapter_values.get("base", {}), directory / "config.json")
        model = _with_adapter(config, adapter, base, directory, fetched=fetched)
    else:
        model = _built(config, directory / WEIGHTS, shipped=source is None)
    model = model.to(device).eval()
    training = read_json(directory / "training.json") if (directory / "training.json").exists() else {}
    card = read_text(directory / "README.md") if (directory / "README.md").exists() else ""
    name = SHIPPED_NAME if source is None else os.fspath(source) if fetched else str(directory.resolve())
    return Checkpoint(model, tokenizer, generation, training, card, name, base)


def base_of(checkpoint: Checkpoint) -> Base:
    """Return ``checkpoint`` as the base of an adapter.

    Raises ``CheckpointError`` for a base that cannot be loaded again: a checkpoint made in memory, or an adapter.
    """
    if checkpoint.model.adapter is not None:
        name = checkpoint.source or "OUT"
        raise CheckpointError(
            f"{name} is an adapter itself; merge it into its base first: captioner convert {name} MERGED --merge"
        )
    if not checkpoint.source:
        raise CheckpointError("the base of an adapter must be saved in a directory; save the captioner, then load it")
    return Base(source=checkpoint.source, fingerprint=fingerprint(find_base(checkpoint.source) / WEIGHTS))


def _built(config: CaptionerConfig, path: Path, *, shipped: bool = False) -> Captioner:
    """Build the model of ``config`` and load its weights from ``path``, after checking that the sizes agree."""
    from captioner.models.captioner import Captioner
    from captioner.models.fit import check_sizes, load_weights

    try:
        if not shipped:  # the check takes a fifth of a second
            check_sizes(config, read_shapes(path), path)
        model = Captioner(config)
    except ConfigError as error:
        raise CheckpointError(f"{path.parent / 'config.json'} describes no model that can be built: {error}") from error
    load_weights(model, read_weights(path), path)
    return model


def _with_adapter(
    config: CaptionerConfig, adapter: AdapterConfig, base: Base, directory: Path, *, fetched: bool
) -> Captioner:
    """Load the model of ``base`` and add the adapter in ``directory``, if it was trained on these weights."""
    from captioner.models import adapters

    try:
        path = find_base(base.source, fetched=fetched) / WEIGHTS
        current = fingerprint(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"the base {base.source} of the adapter {directory} cannot be loaded ({error}); restore it, or correct the "
            "source of the base in config.json"
        ) from error
    if current != base.fingerprint:
        raise CheckpointError(
            f"the adapter {directory} was trained on other weights than {base.source} now holds; restore those "
            f"(SHA-256 {base.fingerprint[:12]}...), or train the adapter again"
        )
    if adapter.method == "prefix":
        config = replace(config, decoder=replace(config.decoder, prefix=0))
    model = _built(config, path)
    weights = directory / ADAPTER_WEIGHTS[adapter.method]
    adapters.check_sizes(adapter, read_shapes(weights), weights)
    adapters.insert(model, adapter)
    adapters.fill(model, read_weights(weights), weights)
    return model


def _checked(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    try:
        return from_dict(kind, values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
