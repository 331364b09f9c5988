"""The types that a user's own mypy --strict checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import captioner
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset


def captions() -> list[str]:
    pipe = captioner.load(device="cpu", precision="bf16")
    one: captioner.Caption = pipe.caption("a.jpg", beams=5, forbid=["man"])
    many: list[captioner.Caption] = pipe.caption([Path("a.jpg"), Path("b.jpg")], count=3, vectors="features")
    for found in pipe.stream(iter(["a.jpg", "b.jpg"]), batch_size=4):
        if isinstance(found, captioner.ImageError):
            print(str(found))
        else:
            print(found.text, found.score, [(word.text, word.probability) for word in found.words])
    score: float = pipe.score("a.jpg", "a dog")
    table: list[list[float]] = pipe.score(["a.jpg"], ["a dog"])
    rows: NDArray[np.float32] = pipe.embed_images(["a.jpg"])
    print(score, table, rows.shape)
    return [one.text, *(caption.text for caption in many)]


class Photos(Dataset[Tensor]):
    def __init__(self, pipe: captioner.CaptionPipeline) -> None:
        self.transform = pipe.transform

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(f"{index}.jpg")


async def later(pipe: captioner.CaptionPipeline) -> str:
    return (await pipe.acaption("a.jpg", beams=2)).text


def as_before(images: Iterator[Image.Image]) -> None:
    pipe = captioner.pipeline("image-to-text", model="org/name", device=0)
    text: str = pipe("a.jpg", max_new_tokens=20)[0]["generated_text"]
    texts: list[str] = [found[0]["generated_text"] for found in pipe(["a.jpg", "b.jpg"], batch_size=2)]
    for found in pipe(images):
        texts.append(found[0]["generated_text"])
    print(text, texts)


def elsewhere() -> str:
    try:
        return captioner.push_to_hub("runs/finetune/best", "org/name", private=True)
    except captioner.CaptionerError as error:
        return str(error)


if __name__ == "__main__":
    print(captions(), asyncio.run(later(captioner.load())))
"""
WRONG = {
    'pipe.caption("a.jpg", beams=5': 'pipe.caption("a.jpg", beams="many"',
    'precision="bf16"': 'precision="fp8"',
    "score: float = pipe.score(": "score: str = pipe.score(",
    'vectors="features"': 'vectors="pictures"',
}


@pytest.mark.slow
def test_a_users_strict_mypy(tmp_path: Path) -> None:
    """Correct use has no error, and each wrong one has: the names are not all Any."""
    (tmp_path / "right.py").write_text(PROGRAM)
    wrong = PROGRAM
    for good, bad in WRONG.items():
        assert good in wrong
        wrong = wrong.replace(good, bad, 1)
    (tmp_path / "wrong.py").write_text(wrong)

    def check(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), name]
        where = {**os.environ, "PYTHONPATH": "", "MYPYPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=where)

    right = check("right.py")
    assert [line for line in right.stdout.splitlines() if line.startswith("right.py")] == [], right.stdout
    found = check("wrong.py").stdout
    for bad in WRONG.values():
        line = 1 + wrong[: wrong.index(bad)].count("\n")
        assert f"wrong.py:{line}: error" in found, (bad, found)
