"""The pages about other programs: their commands parse, and the Python of docs/transformers.md runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from captioner.cli import VERBS, _parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("transformers.md", "browser.md", "torch.md")


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str) -> None:
    """Parse the commands of this package, and find the scripts and extras."""
    lines = [line.split("#")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    assert lines
    for words in map(shlex.split, lines):
        if words[0] == "captioner":
            verb = words[1:] if words[1] in VERBS else ["caption", *words[1:]]
            assert _parser().parse_args(verb).verb
        scripts = [word for word in words if word.endswith((".py", ".sh"))]
        assert all((ROOT / script).exists() for script in scripts)
        if words[0] == "pip":
            extra = re.search(r"\[(\w+)\]", " ".join(words))
            assert extra is None or f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_python_of_transformers_runs(
    learnt: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tiny captioner in place of the shipped one."""
    from captioner.checkpoint import load
    from captioner.exporting import export

    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "datasets" / "photos", tmp_path / "datasets" / "photos")
    export(load(learnt), "captioner-transformers", to="transformers")
    exec(compile("\n".join(blocks("transformers.md", "python")), "transformers.md", "exec"), {"__name__": "__main__"})
    assert "generated_text" in capsys.readouterr().out
    assert load(tmp_path / "captioner-tuned").config == load(learnt).config
