"""The slim installation: captions need no package of an extra, and a command that needs one names it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from captioner import errors
from captioner.cli import main
from captioner.training import packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = {
    "filelock",
    "huggingface_hub",
    "numpy",
    "pillow",
    "safetensors",
    "timm",
    "tomli",
    "tokenizers",
    "torch",
    "torchvision",  # timm imports it
    "tqdm",
}
IMPORTS = {"pillow-heif": "pillow_heif", "captioner": ""}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=; ]", requirement)[0] for requirement in requirements}


def extras() -> list[str]:
    """Return the top modules of the packages of all extras, but those that a base package needs too."""
    found = {name for group in PROJECT["optional-dependencies"].values() for name in names(group)}
    found -= {"h11", "httpx"}  # huggingface_hub needs both
    return sorted(filter(None, (IMPORTS.get(name, name) for name in found - NEEDED)))


def test_the_package_requires_what_a_caption_needs() -> None:
    assert names(PROJECT["dependencies"]) == NEEDED


def test_development_installs_every_extra() -> None:
    own = next(line for line in PROJECT["optional-dependencies"]["dev"] if line.startswith("captioner["))
    assert set(own[len("captioner[") : -1].split(",")) == PROJECT["optional-dependencies"].keys() - {"dev"}


def test_a_caption_needs_no_extra() -> None:
    """Every module is imported, and a photo captioned, in a process that cannot import the packages of the extras.

    The two servers are another program: only their commands import them. The classes of ``captioner.transformers``
    derive from that package's.
    """
    program = f"""
import importlib, pathlib, sys
sys.modules.update(dict.fromkeys({extras()!r}))  # an entry None makes the import fail
for path in sorted(pathlib.Path("captioner").rglob("*.py")):
    if path.name != "__main__.py" and path.parts[1] not in ("serving", "reviewing", "transformers"):
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
from captioner.cli import main
sys.exit(main(["caption", "datasets/photos/chelsea.jpg", "--device", "cpu"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == "datasets/photos/chelsea.jpg\ta close up of a cat's face\n"


@pytest.mark.parametrize(
    ("command", "package", "said"),
    [
        ("train --data nope", "accelerate", "training needs accelerate: pip install 'captioner[train]'"),
        ("finetune --data nope", "nltk", "training needs nltk: pip install 'captioner[train]'"),
        ("evaluate --data nope", "nltk", "BLEU needs nltk: pip install 'captioner[evaluate]'"),
        ("compare a b --data nope", "nltk", "BLEU needs nltk: pip install 'captioner[evaluate]'"),
    ],
)
def test_a_command_names_the_extra_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, package: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(shlex.split(command)) == 1
    assert capsys.readouterr() == ("", f"captioner: {said}\n")


def test_training_names_the_extra_for_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from captioner.training.recipe import load_recipe
    from captioner.training.run import train
    from captioner.training.tasks import Data

    monkeypatch.setitem(sys.modules, "accelerate", None)
    nothing = Data(train=(), validation=(), text=(), validation_text=())
    with pytest.raises(errors.MissingExtraError, match=r"training needs accelerate: pip install 'captioner\[train\]'"):
        train(load_recipe("toy"), nothing, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_training_requires_packages_of_its_extra() -> None:
    assert set(packages.PACKAGES) <= names(PROJECT["optional-dependencies"]["train"])
