"""The options of ``generate`` in transformers, translated to the names of this package."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.config import generation_options
from captioner.errors import UsageError, quoted
from captioner.text import CaptionTokenizer

_HERE = {found.option.transformers: name for name, found in generation_options().items() if found.option.transformers}
_SAMPLING: dict[str, Any] = {  # with the defaults of transformers
    theirs: 50 if theirs == "top_k" else generation_options()[name].default
    for theirs, name in _HERE.items()
    if generation_options()[name].part == "sampling"
}
_SAME = {theirs: name for theirs, name in _HERE.items() if theirs not in _SAMPLING}
_LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
_COUNT = "num_return_sequences"
# Options without effect on the caption.
_WITHOUT_EFFECT = ("early_stopping", "use_cache", "pad_token_id", "transformers_version", "_from_model_config")
_ALL = (*_SAME, *_SAMPLING, *_LENGTHS, *_WITHOUT_EFFECT, "do_sample", _COUNT, "generation_config")
OWN = tuple(name for name in generation_options() if name not in _ALL)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The translated options of one call."""

    count: int = 1  # captions per image
    named: dict[str, Any] = field(default_factory=dict)  # keyword arguments of ``CaptionPipeline``


def asked(max_new_tokens: int | None, generate_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect the options of ``generate`` of one call. Raises ``UsageError`` for a duplicate."""
    if not isinstance(generate_kwargs or {}, Mapping):
        raise UsageError(f"generate_kwargs must be a dict of options, not {quoted(generate_kwargs)}")
    values = dict(generate_kwargs or {})
    if max_new_tokens is not None:
        if "max_new_tokens" in values:
            raise UsageError("max_new_tokens is given both directly and in generate_kwargs; omit one of them")
        values["max_new_tokens"] = max_new_tokens
    return values


def translated(given: Mapping[str, Any], tokenizer: CaptionTokenizer, prompt: str | None = None) -> Options:
    """Translate options of ``generate``, possibly mixed with options of ``CaptionPipeline``.

    Lengths count new tokens with the end token, after the ``prompt``, in both libraries. As in transformers,
    ``do_sample`` defaults to ``top_k`` 50, and sampling options without ``do_sample`` are ignored with a warning.
    Raises ``UsageError`` for an option without a counterpart.
    """
    if prompt is not None and not isinstance(prompt, str):
        raise UsageError(f"prompt must be one text for all images, not a {type(prompt).__name__}")
    options = named_options(given, len(tokenizer.encode(prompt)) if prompt else 0)
    if prompt:
        options.named["prefix"] = prompt
    return options


def named_options(given: Mapping[str, Any], prompt: int) -> Options:
    """Translate options as ``translated`` does, for a prompt of so many tokens.

    Raises ``UsageError`` for an option without a counterpart, and for a length or count that is not a whole number.
    """
    values = _flat(given)
    for name in values:
        if name not in _ALL and name not in OWN:
            near = difflib.get_close_matches(name, (*_ALL, *OWN), n=1)
            known = ", ".join((*_SAME, *_SAMPLING, *_LENGTHS))
            hint = f"; did you mean {near[0]}?" if near else f"; choose among {known}"
            raise UsageError(f"generate_kwargs has {name!r}, which has no counterpart in captioner{hint}")
    for name in (*_LENGTHS, _COUNT):
        if isinstance(value := values.get(name, 0), bool) or not isinstance(value, int):
            raise UsageError(f"{name} must be a whole number, not {quoted(value)}")
    named = {name: values[name] for name in OWN if name in values}
    named |= {ours: values[theirs] for theirs, ours in _SAME.items() if theirs in values}
    named |= _sampling(values) | _lengths(values, prompt)
    return Options(count=values.get(_COUNT, 1), named=named)


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """Drop unset options and add those that a ``GenerationConfig`` of transformers sets."""
    values = {name: value for name, value in given.items() if value is not None}
    config = values.pop("generation_config", None)
    if config is None:
        return values
    if not hasattr(config, "to_diff_dict"):
        raise UsageError(f"generation_config must be a GenerationConfig of transformers, not a {type(config).__name__}")
    return {**{name: value for name, value in config.to_diff_dict().items() if value is not None}, **values}


def _sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    shaping = {name: values[name] for name in _SAMPLING if name in values}
    if not values.get("do_sample", False):
        if shaping:
            warnings.warn(f"{', '.join(shaping)} without do_sample=True has no effect", stacklevel=5)
        return {}
    return {**_SAMPLING, **shaping}


def _lengths(values: Mapping[str, Any], prompt: int) -> dict[str, Any]:
    """Translate lengths: ours include prompt and end token; ``max_length`` of transformers includes the start token."""
    lengths: dict[str, Any] = {}
    if "max_new_tokens" in values:
        lengths["max_tokens"] = values["max_new_tokens"] + prompt
    elif "max_length" in values:
        lengths["max_tokens"] = values["max_length"] - 1
    least = [values.get("min_length", 0)]
    if values.get("min_new_tokens", 0):
        least.append(values["min_new_tokens"] + prompt + 1)  # transformers does not count the end
    if max(least) > 0:
        full = lengths.get("max_tokens")  # in transformers equal bounds mean exactly so many tokens and no end
        lengths["min_tokens"] = full if max(least) - 1 == full else max(least)
    return lengths
