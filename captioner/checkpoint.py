"""A checkpoint directory: the whole captioner as plain files, loadable offline, without pickle.

::

    config.json         format number, vision, decoder, text, preprocess, heads and labels where there are some
    model.safetensors   all weights, the backbone's included
    tokenizer.json      Hugging Face tokenizers format
    generation.json     decoding defaults
    training.json       where the weights come from: recipe, data fingerprint, metrics
    README.md           the model card
    adapter/            in place of model.safetensors where an adapter alone was trained; config.json names its base
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
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from captioner.card import write_card
from captioner.config import AdapterConfig, CaptionerConfig, GenerationConfig, from_dict, to_dict
from captioner.disk import put_in_place
from captioner.errors import CheckpointError, ConfigError, quoted
from captioner.files import (
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
    """The base of an adapter: a path, a hub id or ``shipped``, and the SHA-256 of the weights there."""

    source: str
    fingerprint: str


@dataclass
class Checkpoint:
    """A captioner in memory: the model in eval mode and all that belongs to it.

    ``source`` names what it was loaded from, as ``Base`` does. ``base`` is set where the model carries an adapter that
    is to be saved without it.
    """

    model: Captioner
    tokenizer: CaptionTokenizer
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    training: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""
    source: str = ""
    base: Base | None = None

    @property
    def config(self) -> CaptionerConfig:
        """The settings that the model was built from."""
        return self.model.config


def save(checkpoint: Checkpoint, directory: str | os.PathLike[str], *, dtype: Literal["fp32", "fp16"] = "fp32") -> Path:
    """Write a checkpoint directory; an older one of that name is replaced only after the new one is complete.

    Raises ``CheckpointError`` when it cannot be written (no space, no permission), when something else than a
    checkpoint of this package bears the name, and for a model prepared for inference; what was there stays as it was.
    """
    import torch
    from safetensors.torch import save_file

    if checkpoint.model.precision is not None:
        raise CheckpointError(
            f"the model is prepared for inference in {checkpoint.model.precision} and no longer holds the weights that "
            "a checkpoint is made of; load it without a precision"
        )
    directory = Path(directory)
    if directory.exists() and not _replaceable(directory):
        raise CheckpointError(
            f"{directory} holds other files than a checkpoint of captioner, or is where this process works; choose "
            "another --out"
        )
    partial = directory.with_name(directory.name + ".partial")
    place, found, more = _parts(checkpoint)
    weights = {
        name: value.detach().to("cpu", torch.float16 if dtype == "fp16" and value.is_floating_point() else value.dtype)
        for name, value in found.items()
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
        (partial / place).parent.mkdir(parents=True)
        for name, text in {**texts, **more}.items():
            (partial / name).write_text(text, encoding="utf-8")
        save_file({name: value.contiguous() for name, value in weights.items()}, partial / place)
        (partial / place).chmod((partial / "config.json").stat().st_mode)  # safetensors lets the owner alone read
        _replace(partial, directory)
    except Exception as error:  # safetensors has an exception of its own for a full disk
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot save the checkpoint {directory}: {error}; free some space or choose another --out "
            "(an older checkpoint there is untouched)"
        ) from error
    return directory


def load(source: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint directory, a Hugging Face hub id (``org/name``), or with nothing the model that ships.

    Raises ``CheckpointError`` when it is missing, incomplete, of another format, or its weights are damaged.
    """
    directory = find(source)
    fetched = source is not None and not Path(source).is_dir()
    config_values = read_json(directory / "config.json")
    found = config_values.pop("format", None)
    if found != FORMAT:
        raise CheckpointError(
            f"{directory} is no captioner checkpoint of format {FORMAT} (it says {quoted(found)}); "
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
        model = _built(config, directory / WEIGHTS, ours=source is None)
    model = model.to(device).eval()
    training = read_json(directory / "training.json") if (directory / "training.json").exists() else {}
    card = read_text(directory / "README.md") if (directory / "README.md").exists() else ""
    name = SHIPPED_NAME if source is None else os.fspath(source) if fetched else str(directory.resolve())
    return Checkpoint(model, tokenizer, generation, training, card, name, base)


def base_of(checkpoint: Checkpoint) -> Base:
    """Return the base of an adapter on top of ``checkpoint``. Raises ``CheckpointError`` where nobody finds it again.

    One that was made in memory could not, nor could an adapter, which is no whole captioner.
    """
    if checkpoint.model.adapter is not None:
        name = checkpoint.source or "OUT"
        raise CheckpointError(
            f"{name} is an adapter itself; merge it into its base first: captioner convert {name} MERGED --merge"
        )
    if not checkpoint.source:
        raise CheckpointError("an adapter needs a base that lies in a directory; save the captioner and load it again")
    return Base(source=checkpoint.source, fingerprint=fingerprint(find_base(checkpoint.source) / WEIGHTS))


def merged(checkpoint: Checkpoint) -> Checkpoint:
    """The same captioner with its adapter, if there is one, as part of its weights; it needs no base."""
    if checkpoint.model.adapter is None:
        return checkpoint
    from captioner.models.adapters import merge

    model = copy.deepcopy(checkpoint.model)
    merge(model)
    return replace(checkpoint, model=model, card="", source="", base=None)


def _built(config: CaptionerConfig, path: Path, *, ours: bool = False) -> Captioner:
    """Return the model of ``config``, whose sizes are those of its weights in the file ``path``."""
    from captioner.models.captioner import Captioner
    from captioner.models.fit import check_sizes, load_weights

    try:
        if not ours:  # the check takes a fifth of a second
            check_sizes(config, read_shapes(path), path)
        model = Captioner(config)
    except ConfigError as error:
        raise CheckpointError(f"{path.parent / 'config.json'} describes no model that can be built: {error}") from error
    load_weights(model, read_weights(path), path)
    return model


def _with_adapter(
    config: CaptionerConfig, adapter: AdapterConfig, base: Base, directory: Path, *, fetched: bool
) -> Captioner:
    """The model of ``base``, which must be the one that the adapter in ``directory`` was trained on, with it on top."""
    from captioner.models import adapters

    try:
        path = find_base(base.source, fetched=fetched) / WEIGHTS
        found = fingerprint(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{directory} is an adapter whose base {base.source} is not to be had ({error}); put it back, or write "
            "where it is as the source of the base in config.json"
        ) from error
    if found != base.fingerprint:
        raise CheckpointError(
            f"{directory} is an adapter for other weights than {base.source} now holds; bring back those it was "
            f"trained on (SHA-256 {base.fingerprint[:12]}...), or train it again on these"
        )
    if adapter.method == "prefix":
        config = replace(config, decoder=replace(config.decoder, prefix=0))
    model = _built(config, path)
    place = directory / ADAPTER_WEIGHTS[adapter.method]
    adapters.check_sizes(adapter, read_shapes(place), place)
    adapters.insert(model, adapter)
    adapters.fill(model, read_weights(place), place)
    return model


def _parts(checkpoint: Checkpoint) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """The file of a checkpoint's weights, these weights, and further texts that belong to them."""
    model = checkpoint.model
    if model.adapter is None:
        tied = "decoder.lm_head.weight"  # to the token embedding; restored by building the model
        return WEIGHTS, {name: value for name, value in model.state_dict().items() if name != tied}, {}
    from captioner.models.adapters import peft_file, weights_of

    settings = peft_file(model)
    texts = {} if settings is None else {"adapter/adapter_config.json": settings}
    return ADAPTER_WEIGHTS[model.adapter.method], weights_of(model), texts


def _model_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    settings = to_dict(checkpoint.config)
    for part in ("heads", "labels"):
        if settings[part] is None:
            del settings[part]  # a checkpoint without them stays one that older versions read
    return settings


def _adapter_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.model.adapter is None:
        return {}
    if checkpoint.base is None:
        raise CheckpointError("an adapter is saved beside the name of its base, and this one has none; merge it first")
    return {"adapter": to_dict(checkpoint.model.adapter), "base": to_dict(checkpoint.base)}


def _card(checkpoint: Checkpoint) -> str:
    adapter, base = checkpoint.model.adapter, checkpoint.base
    on = f"{adapter.method} on top of `{base.source}`, which it needs" if adapter and base else ""
    return write_card(checkpoint.config, checkpoint.training, adapter=on)


def _checked(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    try:
        return from_dict(kind, values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _replaceable(directory: Path) -> bool:
    """Return whether only an older checkpoint is lost with a directory; the name generation.json is ours alone."""
    if not directory.is_dir() or Path.cwd().is_relative_to(directory.resolve()):  # it is moved away as a whole
        return False
    return (directory / "generation.json").exists() or not any(directory.iterdir())


def _replace(partial: Path, directory: Path) -> None:
    """Put the finished directory in the place of the old one, which survives any failure on the way."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    try:
        put_in_place(partial, directory)
    except OSError:
        if old.exists() and not directory.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)
