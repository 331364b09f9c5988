"""The README: its commands parse, its Python runs, and its captions are those of the shipped model."""

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
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


def commands() -> list[list[str]]:
    """Return the arguments of every call of captioner in the README's shell blocks."""
    lines = (line.split("  #")[0] for block in blocks("bash") for line in block.splitlines())
    calls = [re.search(r"\bcaptioner (.*)", line.split(" > ")[0]) for line in lines]
    return [shlex.split(call.group(1)) for call in calls if call]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    verb = arguments if arguments[0] in VERBS else ["caption", *arguments]
    assert _parser().parse_args(verb).verb


def test_python_blocks_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    first, *others = capsys.readouterr().out.splitlines()
    caption, confidence = first.rsplit(" ", 1)
    assert f"`chelsea.jpg` | {caption} |" in README
    assert 0 < float(confidence) < 1
    assert len(others) == 2
    assert all(line.endswith("]") for line in others), "a caption and its alternatives"


def test_the_captions_shown_are_the_captions_made(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The table of sample photos, and the output below the first command, equal the command's output."""
    monkeypatch.chdir(ROOT)
    assert captioner(["caption", "datasets/photos"]) == 0
    printed = capfdbinary.readouterr().out.decode().splitlines()
    assert len(printed) == len(PHOTOS)
    for line in printed:
        path, caption = line.split("\t")
        assert f"`{Path(path).name}` | {caption} |" in README, f"{line} (on {sys.platform})"
    (shown,) = blocks("")
    assert shown.splitlines() == [line for line in printed if line.split("\t")[0] in commands()[0]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = link.partition("#")
        if name.startswith("http"):
            continue
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_the_readme_links_to_every_page() -> None:
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README))


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_sample_photo_has_a_source_and_a_licence() -> None:
    table = (ROOT / "datasets" / "photos" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{photo.name}`" for photo in PHOTOS]
    assert all(len(row) == 5 and all(row) for row in rows)
    assert all("public domain" in row[4] or "CC0 1.0" in row[4] or "CC BY" in row[4] for row in rows)
