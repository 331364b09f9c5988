"""What the README shows works as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from captioner.cli import VERBS, _parser
from captioner.cli import main as captioner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PHOTOS = sorted((ROOT / "datasets" / "photos").glob("*.jpg"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Every call of captioner in the README's shell blocks, as arguments."""
    lines = (line.split("  #")[0] for block in blocks("bash") for line in block.splitlines())
    calls = [re.search(r"\bcaptioner (.*)", line.split(" > ")[0]) for line in lines]
    return [shlex.split(call.group(1)) for call in calls if call]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    verb = arguments if arguments[0] in VERBS else ["caption", *arguments]
    assert _parser().parse_args(verb).verb


def test_python_blocks_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    names = {"__name__": "__main__"}
    for block in blocks("python"):  # a later block goes on with the names of the earlier ones
        exec(compile(block, "README.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) >= 6


def test_the_captions_shown_are_the_captions_made(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The table of sample photos is what the first command prints, unedited."""
    monkeypatch.chdir(ROOT)
    assert captioner(["caption", "datasets/photos"]) == 0
    printed = capfdbinary.readouterr().out.decode().splitlines()
    assert len(printed) == len(PHOTOS)
    for line in printed:
        path, caption = line.split("\t")
        assert f"`{Path(path).name}` | {caption} |" in README, f"{line} (on {sys.platform})"


def test_every_sample_photo_has_a_source_and_a_licence() -> None:
    table = (ROOT / "datasets" / "photos" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{photo.name}`" for photo in PHOTOS]
    assert all(len(row) == 5 and all(row) for row in rows)
    assert all("public domain" in row[4] or "CC0 1.0" in row[4] or "CC BY" in row[4] for row in rows)
