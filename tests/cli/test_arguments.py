"""Arguments of the command line from dataclasses, and the dataclasses of every command."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

import captioner.cli
from captioner.cli import VERBS, _parser
from captioner.cli.arguments import Part, add_arguments, argument, group, parsed
from captioner.cli.writing import Writing
from captioner.config import to_dict
from captioner.folder.call import caption_folder
from captioner.folder.plan import Plan, place_of

NEEDED = {
    "caption": ["x"],
    "explain": ["x"],
    "inspect": ["x"],
    "train": ["--data", "x"],
    "finetune": ["--data", "x"],
    "evaluate": ["--data", "x"],
    "compare": ["a", "b", "--data", "x"],
    "convert": ["a", "b"],
    "compress": ["a", "b"],
    "export": ["a", "b", "--to", "onnx"],
    "push": ["a", "b"],
    "ask": ["how many?", "x"],
    "search": ["dog", "x"],
    "doctor": [],
    "review": ["x"],
    "serve": [],
}


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group of options."""

    share: float | None = field(default=None, metadata=argument(help="share", metavar="S"))
    quiet: bool = field(default=True, metadata=argument(flag="--loud", help="loud"))


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Options of every kind."""

    names: tuple[str, ...] = field(metadata=argument(help="names", metavar="NAME", positional=True, nargs="+"))
    size: int = field(metadata=argument(help="size", least=2))
    inner: Inner = field(metadata=group("inner", "more"))
    kind: Literal["a", "b"] | None = field(default=None, metadata=argument(help="kind"))
    each: tuple[str, ...] = field(default=(), metadata=argument(help="repeatable"))
    all_: tuple[str, ...] = field(default=(), metadata=argument(flag="--all", help="several", nargs="+"))
    total: int = field(metadata={"part": Part(add=lambda parser: None, read=lambda values: len(values["names"]))})


def outer(*arguments: str) -> Outer:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser, Outer)
    return parsed(Outer, vars(parser.parse_args(arguments)))


def test_defaults() -> None:
    assert outer("x", "y", "--size", "3") == Outer(names=("x", "y"), size=3, inner=Inner(), total=2)


def test_values_of_every_kind() -> None:
    found = outer("x", *shlex.split("--size 2 --share 0.5 --loud --kind b --each p --each q --all r s"))
    assert found.inner == Inner(share=0.5, quiet=False)
    assert (found.kind, found.each, found.all_) == ("b", ("p", "q"), ("r", "s"))


@pytest.mark.parametrize("wrong", ["--size 1", "--size x", "--size 2 --kind c"])
def test_wrong_values(wrong: str) -> None:
    with pytest.raises(argparse.ArgumentError):
        outer("x", *wrong.split())


def test_every_command_parses_into_its_frozen_dataclass() -> None:
    assert NEEDED.keys() == VERBS.keys()
    for verb, arguments in NEEDED.items():
        options = parsed(VERBS[verb].Options, vars(_parser().parse_args([verb, *arguments])))
        assert to_dict(options)
        first = dataclasses.fields(options)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, first, None)


def test_no_code_takes_a_namespace() -> None:
    package = Path(captioner.cli.__file__).parents[1]
    assert [path for path in package.rglob("*.py") if "Namespace" in path.read_text(encoding="utf-8")] == []


def test_a_folder_has_the_same_defaults_everywhere() -> None:
    defaults: dict[str, Any] = {
        f.name: f.default for f in dataclasses.fields(Plan) if f.name not in ("place", "outputs")
    }
    assert Writing().plan(["x"]) == Plan(place=place_of(["x"], None))
    parameters = inspect.signature(caption_folder).parameters
    assert {name: parameters[name].default for name in defaults} == defaults
