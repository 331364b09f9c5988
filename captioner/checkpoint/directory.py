"""Saving and loading checkpoint directories: the whole captioner as plain files, offline and without pickle.

::

    config.json         format number, vision, decoder, text, preprocess; heads and labels if present
    model.safetensors   all weights, including the backbone
    tokenizer.json      Hugging Face tokenizers format
    generation.json     decoding defaults
    training.json       origin of the weights: recipe, data fingerprint, metrics
    README.md           the model card
    adapter/            replaces model.safetensors if only an adapter was trained; config.json names its base
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from captioner.checkpoint.card import write_card
from captioner.checkpoint.files import (
    SHIPPED_NAME,
    WEIGHTS,
    find,
    find_base,
    fingerprint,
    read_json,
    read_shapes,
    read_text,
    read_weights,
)
from captioner.config import AdapterConfig, CaptionerConfig, GenerationConfig, from_dict, to_dict
from captioner.errors import CheckpointError, ConfigError, quoted
from captioner.system.disk import replace_folder
from captioner.text import CaptionTokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from captioner.models.captioner import Captioner

FORMAT = 1
ADAPTER_WEIGHTS = {
    "lora": "adapter/adapter_model.safetensors",  # peft's names
    "adalora": "adapter/adapter_model.safetensors",
    "prefix": "adapter/prefix.safetensors",
}
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base of an adapter."""

    source: str  # a path, a hub id or ``shipped``
    fingerprint: str  # SHA-256 of its weights


@dataclass
class Checkpoint:
    """A captioner in memory.

    ::

        checkpoint = load("out/best")
        checkpoint.model, checkpoint.tokenizer
        save(checkpoint, "copy", dtype="fp16")
    """

    model: Captioner  # in eval mode
    tokenizer: CaptionTokenizer
    generation: GenerationConfig = field(default_factory=GenerationConfig)  # decoding defaults
    training: Mapping[str, Any] = field(default_factory=dict)  # content of training.json
    card: str = ""  # the model card, in Markdown
    source: str = ""  # path, hub id or ``shipped`` that it was loaded from
    base: Base | None = None  # base of the adapter in ``model``; the adapter is then saved alone

    @property
    def config(self) -> CaptionerConfig:
        """The configuration that the model was built from."""
        return self.model.config

    def original(self) -> Checkpoint:
        """Return this checkpoint."""
        return self


class Restorable(Protocol):
    """A captioner in any form: a checkpoint, one prepared for inference, or a pipeline."""

    def original(self) -> Checkpoint: ...  # the captioner that can be trained and saved


def save(checkpoint: Restorable, directory: str | os.PathLike[str], *, dtype: Literal["fp32", "fp16"] = "fp32") -> Path:
    """Write a checkpoint directory; replace an older one of that name only after the new one is complete.

    Raises ``CheckpointError`` if it cannot be written (no space, no permission) and if the name is taken by anything
    but a checkpoint of this package; existing files then stay as they are.
    """
    import torch
    from safetensors.torch import save_file

    checkpoint = checkpoint.original()
    directory = Path(directory)
    if directory.exists() and not _replaceable(directory):
        raise CheckpointError(
            f"{directory} holds files other than a captioner checkpoint, or is the working directory; choose another "
            "--out"
        )
    partial = directory.with_name(directory.name + ".partial")
    weights_name, tensors, more = _parts(checkpoint)
    weights = {
        name: value.detach().to("cpu", torch.float16 if dtype == "fp16" and value.is_floating_point() else value.dtype)
        for name, value in tensors.items()
    }
    texts = {
        "config.json": _json({"format": FORMAT, **_model_settings(checkpoint), **_adapter_settings(checkpoint)}),
        "tokenizer.json": checkpoint.tokenizer.to_json(),
        "generation.json": _json(to_dict(checkpoint.generation)),
        "training.json": _json(checkpoint.training),
        "README.md": checkpoint.card or _card(checkpoint),
    }
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / weights_name).parent.mkdir(parents=True)
        for name, text in {**texts, **more}.items():
            (partial / name).write_text(text, encoding="utf-8")
        save_file({name: value.contiguous() for name, value in weights.items()}, partial / weights_name)
        (partial / weights_name).chmod((partial / "config.json").stat().st_mode)  # safetensors sets mode 600
        replace_folder(partial, directory)
    except Exception as error:  # safetensors raises its own class for a full disk
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot save the checkpoint {directory}: {error}; free some space or choose another --out "
            "(an older checkpoint there is untouched)"
        ) from error
    return directory


def load(source: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint directory, a Hugging Face hub id (``org/name``), or by default the model that ships.

    Raises ``CheckpointError`` if it is missing, incomplete or of another format, or if its weights are damaged.
    """
    directory = find(source)
    fetched = source is not None and not Path(source).is_dir()
    config_values = read_json(directory / "config.json")
    version = config_values.pop("format", None)
    if version != FORMAT:
        raise CheckpointError(
            f"{directory} is not a captioner checkpoint of format {FORMAT} (its format is {quoted(version)}); "
            "use `captioner convert` for a Hugging Face model, or update captioner"
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


def merged(checkpoint: Checkpoint) -> Checkpoint:
    """Return the same captioner with its adapter, if any, merged into the weights; it no longer needs a base."""
    if checkpoint.model.adapter is None:
        return checkpoint
    from captioner.models.adapters import merge

    model = copy.deepcopy(checkpoint.model)
    merge(model)
    return replace(checkpoint, model=model, card="", source="", base=None)


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


def _parts(checkpoint: Checkpoint) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the name of the weights file, the weights, and additional text files by name."""
    model = checkpoint.model
    if model.adapter is None:
        tied = "decoder.lm_head.weight"  # tied to the token embedding; building the model restores it
        return WEIGHTS, {name: value for name, value in model.state_dict().items() if name != tied}, {}
    from captioner.models.adapters import peft_file, weights_of

    settings = peft_file(model)
    texts = {} if settings is None else {"adapter/adapter_config.json": settings}
    return ADAPTER_WEIGHTS[model.adapter.method], weights_of(model), texts


def _model_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    settings = to_dict(checkpoint.config)
    for part in ("heads", "labels"):
        if settings[part] is None:
            del settings[part]  # so that older versions can read a checkpoint without them
    return settings


def _adapter_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.model.adapter is None:
        return {}
    if checkpoint.base is None:
        raise CheckpointError("this adapter has no base to name in its checkpoint; merge it first")
    return {"adapter": to_dict(checkpoint.model.adapter), "base": to_dict(checkpoint.base)}


def _card(checkpoint: Checkpoint) -> str:
    adapter, base = checkpoint.model.adapter, checkpoint.base
    description = f"{adapter.method} on top of `{base.source}`, which it needs" if adapter and base else ""
    return write_card(checkpoint.config, checkpoint.training, adapter=description)


def _checked(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    try:
        return from_dict(kind, values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _replaceable(directory: Path) -> bool:
    """Return whether a directory is empty or an older checkpoint; only this package writes ``generation.json``."""
    if not directory.is_dir() or Path.cwd().is_relative_to(directory.resolve()):  # it would be renamed
        return False
    return (directory / "generation.json").exists() or not any(directory.iterdir())
