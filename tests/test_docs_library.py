"""What docs/library.md and docs/scale-out.md show works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from captioner.cli import _parser

ROOT = Path(__file__).resolve().parents[1]


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(name: str) -> list[list[str]]:
    lines = (line for block in blocks(name, "bash") for line in block.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("captioner ")]


@pytest.mark.parametrize("arguments", commands("library.md") + commands("scale-out.md"), ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    assert _parser().parse_args(arguments).verb


def test_python_blocks_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(ROOT)
    names = {"__name__": "__main__"}
    program = "\n".join(blocks("library.md", "python"))
    with pytest.warns(UserWarning, match=r"missing\.jpg"):
        exec(compile(program, "library.md", "exec"), names)
    out = capsys.readouterr().out
    assert "[{'generated_text': " in out
    assert "(384,)" in out
