"""The documentation: the commands of the pages about use parse, and the Python of docs/library.md runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from captioner.cli import VERBS, _parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("export.md", "folders.md", "generation.md", "library.md", "results.md", "scale-out.md")


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Return the arguments of every call of captioner in the page's shell blocks, without comments and redirections."""
    lines = (line.split(" > ")[0] for block in blocks(name, "bash") for line in block.splitlines())
    calls = [re.search(r"(?:^|\| )captioner (.*)", line) for line in lines]
    return [shlex.split(call.group(1), comments=True) for call in calls if call]


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_commands(page: str) -> None:
    assert commands(page)


@pytest.mark.parametrize("arguments", [call for page in PAGES for call in commands(page)], ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    verb = arguments if arguments[0] in VERBS else ["caption", *arguments]
    assert _parser().parse_args(verb).verb


def test_python_blocks_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(ROOT)
    names = {"__name__": "__main__"}
    program = "\n".join(blocks("library.md", "python"))
    with pytest.warns(UserWarning, match=r"missing\.jpg"):
        exec(compile(program, "library.md", "exec"), names)
    out = capsys.readouterr().out
    assert "[('a', " in out, "words and their probabilities, of a caption that begins with a prefix"
    assert "[{'generated_text': " in out
    assert "(384,)" in out
