"""Adapters: a few trainable weights on top of a frozen captioner, inserted, saved, loaded or merged.

peft implements LoRA (Hu et al. 2022, arXiv 2106.09685, eq. 3) and AdaLoRA (Zhang et al. 2023, arXiv 2303.10512, eq. 3)
and injects them into the decoder's linear layers. peft refuses prompt learning on models of other libraries, so the
decoder implements the prefix (Li and Liang 2021, arXiv 2101.00190) itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioner.config import AdapterConfig
from captioner.errors import CheckpointError, ConfigError, MissingExtraError
from captioner.models.captioner import Captioner
from captioner.models.decoder import Decoder
from captioner.system.process import plain_defaults

NAME = "default"  # peft's name of an adapter without a name
PEFT_ROOT = "base_model.model."  # peft's prefix of parameter names in a file


@plain_defaults()
def insert(model: Captioner, config: AdapterConfig) -> None:
    """Insert a fresh adapter into ``model``, in place, and freeze all other weights.

    LoRA and AdaLoRA change no output until they are trained; a prefix draws a little attention at once. Raises
    ``ConfigError`` for a target that is no linear layer of the decoder and for a second prefix, ``MissingExtraError``
    if peft is not installed.
    """
    if config.method == "prefix":
        if model.config.decoder.prefix:
            raise ConfigError("the model has a prefix already; train a lora or adalora adapter on top of it")
        model.decoder.add_prefix(config.length)
        model.config = replace(model.config, decoder=model.decoder.config)
    else:
        peft = import_peft()
        targets = _pattern(model.decoder, config.targets)
        if config.method == "lora":
            settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets)
        else:  # total_step is a placeholder: only training knows the schedule
            first = config.rank + (config.rank + 1) // 2
            settings = peft.AdaLoraConfig(
                init_r=first, target_r=config.rank, lora_alpha=config.alpha, target_modules=targets, total_step=1
            )
        peft.inject_adapter_in_model(settings, model, NAME)
    model.adapter = config
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(model, name))


def check_sizes(config: AdapterConfig, shapes: Mapping[str, tuple[int, ...]], where: object) -> None:
    """Refuse an adapter that is larger than the ``shapes`` of its saved weights, before it is built.

    Raises ``CheckpointError``. ``fill`` compares names and shapes in full.
    """
    size = config.length if config.method == "prefix" else config.rank
    if size > max((side for shape in shapes.values() for side in shape), default=0):
        raise CheckpointError(f"{where} does not fit its config.json; take both files from the same checkpoint")


def is_trained(model: Captioner, name: str) -> bool:
    """Return whether the parameter ``name`` is trained: with an adapter, only the adapter's parameters are."""
    if model.adapter is None:
        return True
    return ".self_attn.prefix." in name if model.adapter.method == "prefix" else ".lora_" in name


def weights_of(model: Captioner) -> dict[str, Tensor]:
    """Return the adapter's weights, under peft's names for LoRA and AdaLoRA."""
    if model.adapter is not None and model.adapter.method != "prefix":
        state: dict[str, Tensor] = import_peft().get_peft_model_state_dict(model, save_embedding_layers=False)
        return {PEFT_ROOT + name: value for name, value in state.items()}
    return {name: value for name, value in model.state_dict().items() if is_trained(model, name)}


def fill(model: Captioner, weights: Mapping[str, Tensor], where: object) -> None:
    """Set the adapter's weights. Raises ``CheckpointError`` if their names or shapes belong to another adapter."""
    own = weights_of(model)
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in weights.items()}:
        raise CheckpointError(f"{where} does not fit its config.json; take both files from the same checkpoint")
    with torch.no_grad():
        for name, value in own.items():  # views of the parameters, not copies
            value.copy_(weights[name])


def peft_settings(model: Captioner) -> Any:
    """Return peft's configuration of the adapter in ``model``; None without a peft adapter."""
    return getattr(model, "peft_config", {}).get(NAME)


def peft_file(model: Captioner) -> str | None:
    """Return the text of peft's adapter_config.json; None without a peft adapter."""
    settings = peft_settings(model)
    if settings is None:
        return None
    values = {**settings.to_dict(), "inference_mode": True}
    return json.dumps(values, indent=2, sort_keys=True, default=lambda value: sorted(value)) + "\n"


def merge(model: Captioner) -> None:
    """Merge the adapter into the weights, in place. A prefix stays as part of the decoder."""
    if model.adapter is not None and model.adapter.method != "prefix":
        import_peft()
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                model.set_submodule(name, cast(nn.Module, layer.get_base_layer()))
        del model.peft_config
    model.adapter = None
    model.requires_grad_(True)


def import_peft() -> Any:
    """Import peft, an optional package that takes seconds to import. Raises ``MissingExtraError``."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "finetune", "a LoRA or AdaLoRA adapter") from error
    return peft


def _pattern(decoder: Decoder, targets: Sequence[str]) -> str:
    """Return a regular expression that matches the decoder's linear layers whose path equals or ends with a target.

    Raises ``ConfigError`` for a target without a match; peft accepts missing targets silently if one target exists.
    """
    names = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    for target in targets:  # lm_head shares its weights with the embedding, so its adapter could not be merged
        if not any(f".{name}".endswith(f".{target}") for name in names):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise ConfigError(f"adapter.targets: {target!r} is no linear layer of the decoder; choose among {known}")
    return rf"decoder\.(.+\.)?({'|'.join(map(re.escape, targets))})"
