"""A checkpoint, and how it is saved: the whole captioner as plain files, offline and without pickle.

::

    config.json         format (2: packed weights), vision, decoder, text, preprocess; heads and labels if present
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
from typing import TYPE_CHECKING, Any, Protocol

from captioner.checkpoint.card import write_card
from captioner.checkpoint.files import WEIGHTS
from captioner.checkpoint.packing import SCALE, Dtype, packable, packed
from captioner.config import CaptionerConfig, GenerationConfig, to_dict
from captioner.errors import CheckpointError
from captioner.system.disk import partial_folder, replace_folder
from captioner.text import CaptionTokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from captioner.models.captioner import Captioner

FORMAT = 1
PACKED_FORMAT = 2  # of a checkpoint with packed weights, which earlier versions cannot read
ADAPTER_WEIGHTS = {
    "lora": "adapter/adapter_model.safetensors",  # peft's names
    "adalora": "adapter/adapter_model.safetensors",
    "prefix": "adapter/prefix.safetensors",
}


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


def save(checkpoint: Restorable, directory: str | os.PathLike[str], *, dtype: Dtype = "fp32") -> Path:
    """Write a checkpoint directory; replace an older one of that name only after the new one is complete.

    Of a symlink, the directory that it leads to is replaced. No other directory beside it is touched.
    ``dtype``: int8 and int4 pack the weights (``packing.py``); those of an adapter are fp16 then.

    Raises ``CheckpointError`` if it cannot be written (no space, no permission) and if the name is taken by anything
    but a checkpoint of this package; existing files then stay as they are.
    """
    from safetensors.torch import save_file

    checkpoint = checkpoint.original()
    directory = Path(directory)
    require_replaceable(directory)
    weights_name, tensors, more = _parts(checkpoint)
    weights = _of_dtype(tensors, checkpoint, dtype)
    version = PACKED_FORMAT if any(name.endswith(SCALE) for name in weights) else FORMAT
    texts = {
        "config.json": _json({"format": version, **_model_settings(checkpoint), **_adapter_settings(checkpoint)}),
        "tokenizer.json": checkpoint.tokenizer.to_json(),
        "generation.json": _json(to_dict(checkpoint.generation)),
        "training.json": _json(checkpoint.training),
        "README.md": checkpoint.card or _card(checkpoint),
    }
    partial = partial_folder(directory)
    try:
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


def merged(checkpoint: Checkpoint) -> Checkpoint:
    """Return the same captioner with its adapter, if any, merged into the weights; it no longer needs a base."""
    if checkpoint.model.adapter is None:
        return checkpoint
    from captioner.models.adapters import merge

    model = copy.deepcopy(checkpoint.model)
    merge(model)
    return replace(checkpoint, model=model, card="", source="", base=None)


def _of_dtype(tensors: Mapping[str, Tensor], checkpoint: Checkpoint, dtype: Dtype) -> dict[str, Tensor]:
    """Return ``tensors`` in the form in which a file of ``dtype`` stores them."""
    import torch

    if dtype in ("int8", "int4") and checkpoint.model.adapter is None:
        return packed(tensors, packable(checkpoint.model, bits=8 if dtype == "int8" else 4))
    half = dtype != "fp32"
    return {
        name: value.detach().to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype)
        for name, value in tensors.items()
    }


def _parts(checkpoint: Checkpoint) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the name of the weights file, the weights, and additional text files by name."""
    model = checkpoint.model
    if model.adapter is None:
        from captioner.models.fit import tied_names

        tied = tied_names(model)
        return WEIGHTS, {name: value for name, value in model.state_dict().items() if name not in tied}, {}
    from captioner.models.adapters import peft_file, weights_of

    settings = peft_file(model)
    texts = {} if settings is None else {"adapter/adapter_config.json": settings}
    return ADAPTER_WEIGHTS[model.adapter.method], weights_of(model), texts


def _model_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    settings = to_dict(checkpoint.config)
    for part in ("heads", "labels", "question"):
        if settings[part] is None:
            del settings[part]
    for part in {"decoder", "question"} & settings.keys():
        if settings[part]["head_width"] is None:  # an older captioner does not know it
            del settings[part]["head_width"]
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


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def require_replaceable(directory: Path) -> None:
    """Raise ``CheckpointError`` for a directory that ``save`` would refuse to replace."""
    if directory.exists() and not _replaceable(directory):
        raise CheckpointError(
            f"{directory} holds files other than a captioner checkpoint, or is the working directory; choose another "
            "--out"
        )


def _replaceable(directory: Path) -> bool:
    """Return whether a directory is empty or an older checkpoint; only this package writes ``generation.json``."""
    if not directory.is_dir() or Path.cwd().is_relative_to(directory.resolve()):  # it would be renamed
        return False
    return (directory / "generation.json").exists() or not any(directory.iterdir())
