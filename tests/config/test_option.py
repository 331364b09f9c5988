"""Options of generation: one field declares each, and everything else that names them agrees."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from option_table import CODE, PAGE, code, page

from captioner.cli.arguments import add_arguments, parsed
from captioner.cli.evaluate import Options
from captioner.config import GenerationConfig, SamplingConfig, WordRules, generation_options, to_dict, with_options
from captioner.config.option import Option, check_limits, option, option_of
from captioner.errors import ConfigError, UsageError

OPTIONS = generation_options()
TABLES = {"sampling", "rules", "calibration"}
SET: dict[str, Any] = {  # a value of every option that differs from its default
    "beams": 6,
    "candidates": 2,
    "rerank": "matching",
    "refine": 1,
    "length_penalty": 0.5,
    "min_tokens": 2,
    "max_tokens": 9,
    "groups": 2,
    "diversity": 0.5,
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.5,
    "typical_p": 0.5,
    "seed": 3,
    "prefix": "a",
    "require": ("dog",),
    "forbid": ("cat",),
    "neutral": True,
    "bias": {"dog": 1.5},
    "repetition_penalty": 1.5,
    "no_repeat_ngram": 2,
    "language": "en",
    "label_weight": 0.5,
    "name_sure_labels": 0.5,
    "check_colour": True,
    "unsure": 0.5,
}
NEEDED: dict[str, dict[str, Any]] = {"groups": {"diversity": 0.5}, "diversity": {"groups": 2}}
NEEDED |= {"rerank": {"candidates": 2}}
LIMITED = [name for name, known in OPTIONS.items() if known.option.limits]


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(made, Options)
    return made


def test_every_field_is_an_option() -> None:
    fields = [f for kind in (GenerationConfig, SamplingConfig, WordRules) for f in dataclasses.fields(kind)]
    assert {f.name for f in fields} == set(OPTIONS) | TABLES
    assert {f.name for f in fields if option_of(f) is None} == TABLES
    assert set(SET) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_python_takes_it(name: str) -> None:
    found = to_dict(with_options(GenerationConfig(), {name: SET[name], **NEEDED.get(name, {})}))
    part = OPTIONS[name].part
    value = (found[part] if part else found)[name]
    assert value == (list(SET[name]) if isinstance(SET[name], tuple) else SET[name]) != OPTIONS[name].default


def test_type_checkers_see_it() -> None:
    from captioner.captioning.captions import GenerationOptions

    text = CODE.read_text(encoding="utf-8")
    assert text == code(text), "run: python tests/config/option_table.py"
    hints = typing.get_type_hints(GenerationOptions)
    assert list(hints) == list(OPTIONS)
    assert hints["require"] == str | Sequence[str] | None
    assert (hints["rerank"], hints["top_p"]) == (str | None, float | None)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_command_line_has_it(name: str, parser: argparse.ArgumentParser) -> None:
    flag, option, value = "--" + name.replace("_", "-"), OPTIONS[name].option, SET[name]
    (action,) = (action for action in parser._actions if flag in action.option_strings)
    assert (action.dest, action.default, action.help, action.metavar) == (name, None, option.help, option.metavar)
    text = "dog=1.5" if name == "bias" else value[0] if isinstance(value, tuple) else str(value)
    needed = [f"--{other}={more}" for other, more in NEEDED.get(name, {}).items()]
    values = vars(parser.parse_args(["--data", "x", flag, *([] if value is True else [text]), *needed]))
    given = parsed(Options, values).generation[name]
    assert given == (list(value) if isinstance(value, tuple) else value)


def test_a_switch_of_the_checkpoint_can_be_switched_off(parser: argparse.ArgumentParser) -> None:
    options = parsed(Options, vars(parser.parse_args(["--data", "x", "--no-neutral"]))).generation
    assert options == {"neutral": False}
    assert not with_options(GenerationConfig(rules=WordRules(neutral=True)), options).rules.neutral


def test_a_word_list_joins_the_forbidden_words(parser: argparse.ArgumentParser, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# a comment\nhot dog\ncat\n")
    given = ["--data", "x", "--forbid-file", str(tmp_path / "words.txt")]
    assert parsed(Options, vars(parser.parse_args(given))).generation == {"forbid": ["hot dog", "cat"]}
    both = parsed(Options, vars(parser.parse_args([*given, "--forbid", "man"]))).generation
    assert with_options(GenerationConfig(), both).rules.forbid == ("man", "hot dog", "cat")
    with pytest.raises(ConfigError, match="'hot dog' is in both forbid and prefix"):
        parsed(Options, vars(parser.parse_args([*given, "--prefix", "a Hot Dog on"])))
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\); name a text file"):
        parsed(Options, vars(parser.parse_args(["--data", "x", "--forbid-file", str(tmp_path / "gone")])))


@pytest.mark.parametrize("name", LIMITED)
def test_limits(name: str, parser: argparse.ArgumentParser) -> None:
    known, tested = OPTIONS[name], {"": GenerationConfig, "sampling": SamplingConfig, "rules": WordRules}
    option, step = known.option, 1 if known.option.whole else 0.001
    outside = [option.least - step] if option.least is not None else []
    outside += [option.above] if option.above is not None else []
    outside += [option.most + step] if option.most is not None else []
    assert outside
    for value in outside:
        with pytest.raises(ConfigError, match=f"{name} must be"):
            tested[known.part](**{name: value})
    inside = [limit for limit in (option.least, option.most) if limit is not None]
    assert all(map(option.holds, inside))
    if option.whole and option.least is not None:
        with pytest.raises(argparse.ArgumentError, match=f"is not a whole number of at least {option.least}"):
            parser.parse_args(["--data", "x", f"--{name.replace('_', '-')}={option.least - 1}"])


@pytest.mark.parametrize("text", ["dog", "dog=x", "=1"])
def test_a_bias_is_words_and_a_number(text: str, parser: argparse.ArgumentParser) -> None:
    with pytest.raises(argparse.ArgumentError, match=f"{text} is not of the form WORDS=NUMBER"):
        parser.parse_args(["--data", "x", "--bias", text])


def test_calls_as_in_transformers() -> None:
    from captioner.pipelines.image_to_text.options import translated
    from captioner.text import train_tokenizer

    tokenizer = train_tokenizer(["a photo of a dog"], 300, lowercase=True)
    theirs = {known.option.transformers: name for name, known in OPTIONS.items() if known.option.transformers}
    assert len(theirs) == 11
    library = (PAGE.parent / "library.md").read_text(encoding="utf-8")
    for other, name in theirs.items():
        assert f"`{other}`" in library
        sampled = {"do_sample": True} if OPTIONS[name].part == "sampling" else {}
        assert translated({other: SET[name], **sampled}, tokenizer).named[name] == SET[name]


def test_the_page_has_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run: python tests/config/option_table.py"
    rows = re.findall(r"^\| `--([a-z-]+)", text.partition("<!-- table -->")[2].partition("<!-- end")[0], re.MULTILINE)
    assert [row.replace("-", "_") for row in rows] == list(OPTIONS)


@dataclasses.dataclass(frozen=True)
class Three:
    """Three numbers."""

    whole: int = dataclasses.field(default=1, metadata=option(help="", least=1, most=9))
    share: float | None = dataclasses.field(default=None, metadata=option(help="", above=0.0, most=1.0))
    open: float = dataclasses.field(default=1.0, metadata=option(help="", above=0.0, remedy="leave it out"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"whole": 0}, "three.whole must be at least 1, not 0"),
        ({"whole": 10**5000}, "three.whole must be at most 9; lower it"),
        ({"share": 0.0}, "share must be above 0 and at most 1, not 0"),
        ({"share": float("nan")}, "share must be above 0 and at most 1, not nan"),
        ({"open": float("inf")}, "open must be a number above 0, not inf; leave it out"),
    ],
)
def test_messages(values: Mapping[str, Any], message: str) -> None:
    check_limits(Three(), "three")
    with pytest.raises(ConfigError) as caught:
        check_limits(Three(**values), "three")
    assert str(caught.value) == message


def test_limits_in_words() -> None:
    assert Option(help="", least=-2.0, most=2.0).limits == "from -2 to 2"
    assert Option(help="", least=0.0, most=1.0).limits == "at least 0 and at most 1"
    assert Option(help="", least=0).limits == "at least 0"
    assert Option(help="").limits == ""
