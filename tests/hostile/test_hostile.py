"""One run over everything in the table: every file has the outcome that the table says, in little memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, os.path.dirname(__file__))

from case import CAPTION
from images import encoded, photo
from table import build, cases, page

from captioner.checkpoint import Checkpoint, save
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    VisionConfig,
)
from captioner.data.paths import shown
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
MEMORY = 3 << 29  # bytes that the run may take beyond what it has when the model is loaded

# Captions one photo, so that all modules are loaded while they may be read, and goes on as a user who may not read
# everything, if it was started as one who may.
PROGRAM = """
import os, resource, sys
from captioner.cli import main
model, photo, most, *arguments = sys.argv[1:]
assert main(["caption", photo, "--model", model, "--device", "cpu"]) == 0
import encodings.idna, encodings.cp437, bz2, lzma, pillow_heif
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
with open("/proc/self/statm") as file:
    now = int(file.read().split()[5]) * resource.getpagesize()
if int(most):
    resource.setrlimit(resource.RLIMIT_DATA, (now + int(most), now + int(most)))
sys.exit(main([arguments[0], "--model", model, "--device", "cpu", *arguments[1:]]))
"""


@dataclass(frozen=True)
class Run:
    """What one run said: a caption or a reason by id, its exit code, stderr, and the most memory that it took."""

    said: dict[str, str]
    lines: int
    code: int
    err: str


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    """A folder that other users can enter, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="captioner-hostile-"))
    folder.chmod(0o755)
    yield folder
    for path in [*folder.glob("*/places/closed"), *folder.glob("*/places/listed")]:
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def model(top: Path) -> Path:
    """A captioner that has learnt nothing."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a dog on a beach", "two dogs"], 262)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=DecoderConfig(vocab_size=tokenizer.vocab_size, width=16, layers=1, heads=2, cross_pattern="M"),
        text=tokenizer.config,
        preprocess=PreprocessConfig(size=32),
    )
    (top / "whole.png").write_bytes(encoded(photo(), "PNG"))
    return save(Checkpoint(Captioner(config).eval(), tokenizer, GenerationConfig(max_tokens=4), {}, ""), top / "model")


def start(model: Path, *arguments: str, memory: int = 0, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command as a user who may not read everything."""
    command = [sys.executable, "-c", PROGRAM, str(model), str(model.parent / "whole.png"), str(memory), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "no_proxy": "*"}
    return subprocess.run(command, capture_output=True, check=False, env=environment, cwd=model.parent, **options)


@pytest.fixture(scope="module")
def run(top: Path, model: Path) -> Run:
    files = top / "files"
    given = build(files)
    done = start(model, "caption", "--json", "--", *given, memory=MEMORY)
    records = [json.loads(line) for line in done.stdout.splitlines()[1:]]  # the first is of the photo that is whole
    names = [record["path"].removeprefix(f"{files}/").partition("/ddd")[0] for record in records]
    said = {name: record.get("error", CAPTION) for name, record in zip(names, records, strict=True)}
    assert all(isinstance(record.get("caption", ""), str) for record in records)
    return Run(said, len(records), done.returncode, done.stderr.decode())


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
    assert run.err == "", "records carry the errors"


def test_the_table_is_long_and_its_names_differ() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 60
    assert len([case for case in cases() if not case.outcome]) < 12


def test_the_page_has_this_table() -> None:
    text = (ROOT / "docs" / "hard-input.md").read_text(encoding="utf-8")
    assert text == page(text), "run: python tests/hostile/table.py"


def _plain(said: str, name: str) -> str:
    """The outcome without the name before it, the detail of a library in parentheses and the count behind it."""
    if said == CAPTION:
        return said
    assert said.startswith("cannot read "), said
    assert said.isprintable()
    return re.split(r" \(|; \d+ images before", said.rpartition(_end_of(name))[2])[0]


def _end_of(name: str) -> str:
    return "d: " if name == "places/deep" else f"{shown(name.removesuffix('!/'))[-20:]}: "
