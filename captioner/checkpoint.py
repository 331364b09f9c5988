"""A checkpoint directory: the whole captioner as plain files, loadable offline, without pickle.

::

    config.json         format number, vision, decoder, text, preprocess
    model.safetensors   all weights, the backbone's included
    tokenizer.json      Hugging Face tokenizers format
    generation.json     decoding defaults
    training.json       where the weights come from: recipe, data fingerprint, metrics
    README.md           the model card
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from captioner.card import write_card
from captioner.config import CaptionerConfig, GenerationConfig, from_dict, to_dict
from captioner.errors import CheckpointError, ConfigError
from captioner.text import CaptionTokenizer

if TYPE_CHECKING:
    from torch import nn

    from captioner.models.captioner import Captioner

FORMAT = 1
WEIGHTS = "model.safetensors"
SHIPPED = Path(__file__).parent / "weights" / "default"
T = TypeVar("T")


@dataclass
class Checkpoint:
    """A captioner in memory: the model in eval mode and all that belongs to it."""

    model: Captioner
    tokenizer: CaptionTokenizer
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    training: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""

    @property
    def config(self) -> CaptionerConfig:
        """What the model was built from."""
        return self.model.config


def save(checkpoint: Checkpoint, directory: str | os.PathLike[str], *, dtype: Literal["fp32", "fp16"] = "fp32") -> Path:
    """Write a checkpoint directory; an older one of that name is replaced only after the new one is complete.

    Raises ``CheckpointError`` when it cannot be written (no space, no permission) or when something else than a
    checkpoint of this package bears the name; what was there stays as it was.
    """
    import torch
    from safetensors.torch import save_file

    directory = Path(directory)
    if directory.exists() and not _replaceable(directory):
        raise CheckpointError(f"{directory} holds other files than a checkpoint of captioner; choose another --out")
    partial = directory.with_name(directory.name + ".partial")
    weights = {
        name: value.detach().to("cpu", torch.float16 if dtype == "fp16" and value.is_floating_point() else value.dtype)
        for name, value in checkpoint.model.state_dict().items()
        if name != "decoder.lm_head.weight"  # tied to the token embedding; restored by building the model
    }
    texts = {
        "config.json": _json({"format": FORMAT, **to_dict(checkpoint.config)}),
        "tokenizer.json": checkpoint.tokenizer.to_json(),
        "generation.json": _json(to_dict(checkpoint.generation)),
        "training.json": _json(checkpoint.training),
        "README.md": checkpoint.card or write_card(checkpoint.config, checkpoint.training),
    }
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        save_file({name: value.contiguous() for name, value in weights.items()}, partial / WEIGHTS)
        (partial / WEIGHTS).chmod((partial / "config.json").stat().st_mode)  # safetensors lets the owner alone read
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
    import safetensors
    from safetensors.torch import load_file

    from captioner.models.captioner import Captioner

    directory = find(source)
    config_values = read_json(directory / "config.json")
    found = config_values.pop("format", None)
    if found != FORMAT:
        raise CheckpointError(
            f"{directory} is no captioner checkpoint of format {FORMAT} (it says {found!r}); "
            "use `captioner convert` for a Hugging Face model, or update captioner"
        )
    config = _checked(CaptionerConfig, config_values, directory / "config.json")
    generation = _checked(GenerationConfig, read_json(directory / "generation.json"), directory / "generation.json")
    tokenizer = CaptionTokenizer.from_json(_read(directory / "tokenizer.json"), config.text)
    model = Captioner(config)
    try:
        weights = load_file(directory / WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{directory / WEIGHTS} is missing or damaged ({error}); fetch or save it again"
        ) from error
    load_weights(model, weights, directory / WEIGHTS)
    model = model.to(device).eval()
    training = read_json(directory / "training.json") if (directory / "training.json").exists() else {}
    card = _read(directory / "README.md") if (directory / "README.md").exists() else ""
    return Checkpoint(model, tokenizer, generation, training, card)


def load_weights(model: nn.Module, weights: Mapping[str, Any], where: object) -> None:
    """Fill the model strictly; the tied ``lm_head`` may be absent. Raises ``CheckpointError`` naming what differs."""
    tied = {"decoder.lm_head.weight", "lm_head.weight"}  # in a captioner, in a decoder alone
    wanted = {name: value for name, value in model.state_dict().items() if name not in tied}
    missing = sorted(wanted.keys() - weights.keys())
    unknown = sorted(weights.keys() - wanted.keys() - tied)
    shapes = sorted(n for n in wanted.keys() & weights.keys() if wanted[n].shape != weights[n].shape)
    for problem, names in (("lacks", missing), ("has an unknown", unknown), ("has another shape of", shapes)):
        if names:
            raise CheckpointError(
                f"{where} does not fit its config.json: it {problem} {names[0]} (and {len(names) - 1} more); "
                "take both files from the same checkpoint"
            )
    model.load_state_dict(dict(weights), strict=False)


def find(source: str | os.PathLike[str] | None) -> Path:
    """The local directory of a checkpoint; a hub id is downloaded (or taken from the cache) first."""
    if source is None:
        if not (SHIPPED / "config.json").exists():
            raise CheckpointError("this installation holds no model; install captioner again or name one with --model")
        return SHIPPED
    directory = Path(source)
    if directory.is_dir():
        best = directory / "best"  # what `captioner train` leaves in its --out
        return best if not (directory / "config.json").exists() and best.is_dir() else directory
    name = os.fspath(source)
    if directory.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"{name} is no checkpoint directory; name a directory that `captioner train` wrote")
    return download(name)


def download(name: str, files: list[str] | None = None) -> Path:
    """The local copy of a hub repository, or of its ``files`` (glob patterns): from the cache, else from the net.

    Raises ``CheckpointError`` when it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # the hub's client raises a dozen kinds, offline ones among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name} is neither a directory nor to be had from the Hugging Face hub ({reason}); check the name"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint. Raises ``CheckpointError`` when it is missing or no JSON object."""
    try:
        values = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch or save the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object; fetch or save the checkpoint again")
    return values


def _checked(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    try:
        return from_dict(kind, values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a complete checkpoint directory") from error


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _replaceable(directory: Path) -> bool:
    """Whether nothing but an older checkpoint is lost with a directory; the name generation.json is ours alone."""
    return directory.is_dir() and ((directory / "generation.json").exists() or not any(directory.iterdir()))


def _replace(partial: Path, directory: Path) -> None:
    """Put the finished directory in the place of the old one, which survives any failure on the way."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    try:
        partial.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)
