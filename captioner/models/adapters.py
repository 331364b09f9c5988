"""Adapters: a few weights on top of a captioner that stays as it is, put in, taken out, or merged for good.

LoRA (Hu et al. 2022, arXiv 2106.09685, eq. 3) and AdaLoRA (Zhang et al. 2023, arXiv 2303.10512, eq. 3) are peft's,
injected into the decoder's linear layers. peft refuses prompt learning on models that are not its own, so the prefix
(Li and Liang 2021, arXiv 2101.00190) is the decoder's own.
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
from captioner.process import plain_defaults

NAME = "default"  # what peft calls an adapter that is not named
PEFT_ROOT = "base_model.model."  # what peft puts before a model's own names in a file


@plain_defaults()
def insert(model: Captioner, config: AdapterConfig) -> None:
    """Put a fresh adapter into ``model``, in place; all that was there is frozen.

    LoRA and AdaLoRA change no output until they are trained; a prefix draws a little attention to itself at once.
    Raises ``ConfigError`` for a target that is no linear layer of the decoder, and for a prefix before a prefix;
    ``MissingExtraError`` where peft is not installed.
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
        else:  # the steps are those of a schedule that only training knows
            first = config.rank + (config.rank + 1) // 2
            settings = peft.AdaLoraConfig(
                init_r=first, target_r=config.rank, lora_alpha=config.alpha, target_modules=targets, total_step=1
            )
        peft.inject_adapter_in_model(settings, model, NAME)
    model.adapter = config
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(model, name))


def check_sizes(config: AdapterConfig, shapes: Mapping[str, tuple[int, ...]], where: object) -> None:
    """Refuse an adapter that is larger than its weights, of these ``shapes``, before it is built.

    Raises ``CheckpointError``; ``fill`` compares the rest.
    """
    asked = config.length if config.method == "prefix" else config.rank
    if asked > max((side for shape in shapes.values() for side in shape), default=0):
        raise CheckpointError(f"{where} does not fit its config.json; take both files from the same checkpoint")


def is_trained(model: Captioner, name: str) -> bool:
    """Whether the parameter of this name is the adapter's, or there is no adapter that alone is trained."""
    if model.adapter is None:
        return True
    return ".self_attn.prefix." in name if model.adapter.method == "prefix" else ".lora_" in name


def weights_of(model: Captioner) -> dict[str, Tensor]:
    """The adapter's weights alone, by peft's names where it is peft's."""
    if model.adapter is not None and model.adapter.method != "prefix":
        found: dict[str, Tensor] = import_peft().get_peft_model_state_dict(model, save_embedding_layers=False)
        return {PEFT_ROOT + name: value for name, value in found.items()}
    return {name: value for name, value in model.state_dict().items() if is_trained(model, name)}


def fill(model: Captioner, weights: Mapping[str, Tensor], where: object) -> None:
    """Set the adapter's weights. Raises ``CheckpointError`` where their names or shapes are of another adapter."""
    own = weights_of(model)
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in weights.items()}:
        raise CheckpointError(f"{where} does not fit its config.json; take both files from the same checkpoint")
    with torch.no_grad():
        for name, value in own.items():  # not copies
            value.copy_(weights[name])


def peft_settings(model: Captioner) -> Any:
    """peft's own configuration of its adapter in ``model``, or None where there is none of peft's."""
    return getattr(model, "peft_config", {}).get(NAME)


def peft_file(model: Captioner) -> str | None:
    """What peft writes as adapter_config.json, or None for an adapter of ours."""
    settings = peft_settings(model)
    if settings is None:
        return None
    values = {**settings.to_dict(), "inference_mode": True}
    return json.dumps(values, indent=2, sort_keys=True, default=lambda value: sorted(value)) + "\n"


def merge(model: Captioner) -> None:
    """Make the adapter part of the weights, in place. A prefix stays what it is, a part of the decoder."""
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
    """peft, which is an optional package and takes seconds to import. Raises ``MissingExtraError``."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "finetune", "a LoRA or AdaLoRA adapter") from error
    return peft


def _pattern(decoder: Decoder, targets: Sequence[str]) -> str:
    """A regular expression of the linear layers of the decoder whose path is one of ``targets`` or ends with it.

    peft itself is content where one of several targets is found, and silent about the others.
    """
    found = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    for target in targets:  # lm_head is the embedding too: a change of it alone could not be merged
        if not any(f".{name}".endswith(f".{target}") for name in found):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in found}))
            raise ConfigError(f"adapter.targets: {target!r} is no linear layer of the decoder; choose among {known}")
    return rf"decoder\.(.+\.)?({'|'.join(map(re.escape, targets))})"
