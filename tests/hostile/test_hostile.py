"""One run over the whole table of hard input: every file has its outcome, within a memory limit."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from case import CAPTION
from driver import Step, start
from table import build, cases, page

from captioner.data.paths import shown

MEMORY = 3 << 29  # bytes that the run may take beyond what it has when the model is loaded


@dataclass(frozen=True)
class Run:
    """The output of one run: a caption or an error by id, the number of lines, its exit code, stderr."""

    said: dict[str, str]
    lines: int
    code: int
    err: str


@pytest.fixture(scope="module")
def run(top: Path, model: Path) -> Run:
    files = top / "files"
    given = build(files)
    (done,) = start(model, [Step(arguments=["--json", "--", *given], memory=MEMORY)], top / "said")
    records = [json.loads(line) for line in done.out[0].splitlines()]
    names = [record["path"].removeprefix(f"{files}/").partition("/ddd")[0] for record in records]
    said = {name: record.get("error", CAPTION) for name, record in zip(names, records, strict=True)}
    assert all(isinstance(record.get("caption", ""), str) for record in records)
    return Run(said, len(records), done.codes[0], done.err[0])


def test_every_file_has_the_outcome_of_the_table(run: Run) -> None:
    expected = {case.name: case.outcome for case in cases() if case.outcome}
    said = {name: _plain(outcome, name) for name, outcome in run.said.items()}
    names = [name for name in sorted({*expected, *said}) if expected.get(name) != said.get(name)]
    wrong = "\n".join(f"{name!a}: {run.said.get(name)}, not {expected.get(name)}" for name in names)
    assert not wrong, f"{wrong}\n{run.err[-2000:]}"
    assert run.lines == len(expected), "each once"


def test_nothing_else_is_said(run: Run) -> None:
    assert run.code == 1
    assert "Traceback" not in run.err
    told = [line.partition(": ")[2].partition(":")[0] for line in run.err.splitlines()]
    assert set(told) <= {"left out", "not supported", "not opened"}, "records carry the errors"
    assert len(set(told)) == len(told)


def test_the_table_is_long_and_its_names_differ() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 60
    assert len([case for case in cases() if not case.outcome]) < 12


def test_the_page_has_this_table() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "hard-input.md").read_text(encoding="utf-8")
    assert text == page(text), "run: python tests/hostile/table.py"


def _plain(said: str, name: str) -> str:
    """Return the outcome without the name before it, a library's detail in parentheses, and the count after it."""
    if said == CAPTION:
        return said
    assert said.startswith("cannot read "), said
    assert said.isprintable()
    return re.split(r" \(|; \d+ images? before", said.rpartition(_end_of(name))[2])[0]


def _end_of(name: str) -> str:
    return "d: " if name == "places/deep" else f"{shown(name.removesuffix('!/'))[-20:]}: "
