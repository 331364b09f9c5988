"""Arguments of a command from the fields of its dataclass, and that dataclass from the parsed arguments.

A field with an ``Argument`` (or an ``Option`` of ``captioner.config``) in its metadata is one argument: its type and
its default decide how argparse reads it. A field without is a dataclass of further arguments, or has a ``Part``.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from captioner.config.option import Option, option_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Argument(Option):
    """An argument of the command line only."""

    flag: str = ""  # if it is not the field's name
    positional: bool = False
    nargs: str | None = None  # of a tuple; by default a tuple has one item for each time that the flag is given
    parse: Callable[[str], Any] | None = None  # if the type of the field does not say it


@dataclass(frozen=True, kw_only=True)
class Part:
    """Arguments of a field that its type does not describe."""

    add: Callable[[argparse.ArgumentParser], None]
    read: Callable[[Mapping[str, Any]], Any]  # the field's value from all parsed arguments


def argument(**settings: Any) -> dict[str, Option]:
    """Return the metadata of a field that is an argument."""
    return {"option": Argument(**settings)}


def group(title: str, description: str) -> dict[str, tuple[str, str]]:
    """Return the metadata of a dataclass field whose arguments have their own section of the help."""
    return {"group": (title, description)}


def add_arguments(parser: argparse._ActionsContainer, kind: type[Any]) -> None:
    """Add the arguments of the dataclass ``kind``."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if (option := option_of(field)) is not None:
            add_argument(parser, field.name, hints[field.name], field.default, option)
        elif (part := field.metadata.get("part")) is not None:
            part.add(parser)
        else:
            section = field.metadata.get("group")
            add_arguments(parser.add_argument_group(*section) if section else parser, hints[field.name])


def add_argument(
    parser: argparse._ActionsContainer, name: str, hint: Any, default: Any, option: Option
) -> argparse.Action:
    """Add the argument ``name`` of a type; a ``default`` of ``dataclasses.MISSING`` requires it."""
    own = option if isinstance(option, Argument) else Argument(help=option.help)
    kind = _without_none(hint)
    origin = typing.get_origin(kind)
    settings: dict[str, Any] = {"help": option.help}
    if kind is bool and default is None:  # a setting of the checkpoint, which --no-NAME switches off
        settings |= {"action": argparse.BooleanOptionalAction, "default": None}
    elif kind is bool:
        settings |= {"action": "store_false" if default is True else "store_true", "default": default}
    else:
        settings |= {"metavar": option.metavar, "type": own.parse or _parser(kind, option), "nargs": own.nargs}
        settings["choices"] = typing.get_args(kind) if origin is Literal else None
        if origin in (tuple, Mapping):
            default = default if default is None or default is MISSING else list(default)
            settings["action"] = "store" if own.nargs else "append"
        if default is not MISSING:
            settings["default"] = default
    settings = {key: value for key, value in settings.items() if value is not None or key == "default"}
    if own.positional:
        return parser.add_argument(name, **settings)
    flags = [own.flag or "--" + name.replace("_", "-"), *([f"--{option.alias}"] if option.alias else [])]
    return parser.add_argument(*flags, dest=name, required=default is MISSING, **settings)


def parsed(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass ``kind`` from parsed arguments."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        if option_of(field) is not None:
            value = values[field.name]
            found[field.name] = tuple(value) if isinstance(value, list) else value
        elif (part := field.metadata.get("part")) is not None:
            found[field.name] = part.read(values)
        else:
            found[field.name] = parsed(hints[field.name], values)
    return kind(**found)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _parser(kind: Any, option: Option) -> Callable[[str], Any] | None:
    """Return the argparse type of a number, of a tuple's items, or of a pair of words and number; None for texts."""
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    if kind is int:
        return partial(whole, least=None if option.least is None else int(option.least))
    if kind is float:
        return float
    return words_and_number if typing.get_origin(kind) is Mapping else None


def whole(text: str, *, least: int | None = None) -> int:
    """Parse a whole number of at least ``least``, as an argparse type."""
    try:
        value = int(text)  # raises for thousands of digits too
    except ValueError:
        value = None
    if value is None or (least is not None and value < least):
        shortened = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(
            f"{shortened} is not a whole number" + ("" if least is None else f" of at least {least}")
        )
    return value


def words_and_number(text: str) -> tuple[str, float]:
    """Parse ``WORDS=NUMBER``, as an argparse type."""
    words, _, value = text.rpartition("=")
    try:
        if words:
            return words, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is not of the form WORDS=NUMBER")
