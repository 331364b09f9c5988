"""Strict conversion of dataclasses from and to plain dicts."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from captioner.errors import ConfigError, quoted

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain dicts, lists and scalars, ready for JSON."""
    return typing.cast(dict[str, Any], _plain(config))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass ``kind`` from plain values, strictly.

    ``where`` prefixes key names in messages (``decoder.``). Raises ``ConfigError`` for an unknown key (with the closest
    known one), a missing key, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where.rstrip('.') or kind.__name__} must be a table of settings, not {quoted(values)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:80], fields, n=1, cutoff=0)
            remedy = f"did you mean {where}{near[0]}?" if near else "no settings are allowed here"
            raise ConfigError(f"unknown setting {where}{quoted(str(key))[1:-1]}; {remedy}")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"setting {where}{name} is missing")
    config = kind(**{key: convert(hints[key], value, f"{where}{key}") for key, value in values.items()})
    for name in fields:  # JSON and TOML can contain infinity and NaN
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{where}{name} must be of finite numbers, not {quoted(value)}")
    return config


def convert(hint: Any, value: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return convert(next(a for a in args if a is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{name} must be one of {', '.join(map(str, args))}, not {quoted(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list, not {quoted(value)}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{name} must have {len(inner)} values, not {len(value)}")
        return tuple(convert(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(inner, value, strict=True)))
    if dataclasses.is_dataclass(hint):
        return (
            value
            if isinstance(value, typing.cast(type, hint))
            else from_dict(typing.cast(Any, hint), value, where=f"{name}.")
        )
    if hint is Any:
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {quoted(value)}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else math.inf
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{name} must be a {hint.__name__}, not {quoted(value)}")
    return value


def at_least_one(config: object, table: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{table}.{name}".lstrip(".") + f" must be at least 1, not {getattr(config, name)}")
