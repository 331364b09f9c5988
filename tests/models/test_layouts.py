"""Grids of timm's families: right, or refused in a sentence. ``docs/backbones.md`` holds the table of all of them.

``python tests/models/test_layouts.py`` writes that table. Models are built without memory for their weights.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import timm
import torch

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError
from captioner.models.vision import VisionEncoder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
ROW = re.compile(r"^\| (\w+) \| `(\w+)` \| (\d+) \| (.*) \|$", re.MULTILINE)


def outcome(name: str, size: int) -> str:
    """Return the table's entry of a backbone at an input size: its grid and tokens, or the error."""
    try:
        with torch.device("meta"):
            vision = VisionEncoder(VisionConfig(backbone=name), PreprocessConfig(size=size), 8).eval()
            with torch.no_grad():
                found = vision.features(torch.zeros(1, 3, size, size))
    except ConfigError as error:
        return f"refused: {str(error).removeprefix(name).strip().partition(';')[0]}"
    h, w = found.grid
    return f"{h} x {w}" + (f", {found.prefix} before them" if found.prefix else "")


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("volo_d1_224", 224, "14 x 14, 1 before them"),
        ("coat_lite_tiny", 224, "7 x 7, 1 before them"),
        ("coat_tiny", 224, "7 x 7, 1 before them"),
        ("pit_ti_distilled_224", 224, "7 x 7"),
        ("crossvit_tiny_240", 240, "refused: a backbone of timm's family crossvit gives several sets of features"),
    ],
)
def test_families_with_layouts_of_their_own(name: str, size: int, said: str) -> None:
    assert outcome(name, size).startswith(said)


def test_a_grid_that_does_not_fit_the_reduction_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the family was supported, its class token counted as a patch: a grid of 1 x 197."""
    monkeypatch.setattr("captioner.models.vision.prefix_of", lambda backbone: 0)
    assert outcome("volo_d1_224", 224).startswith("refused: returns 197 patches of 384 channels")


def test_an_image_that_a_backbone_cannot_read_is_one_sentence() -> None:
    said = outcome("inception_v3", 16)
    assert said.startswith("refused: ")
    assert "\n" not in said


@pytest.mark.slow
def test_every_family_of_timm_gives_what_the_table_says() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) > 80
    known = set(timm.list_modules())
    wrong = {
        name: (said, found)
        for family, name, size, said in rows
        if family in known and timm.is_model(name) and (found := outcome(name, int(size))) != said
    }
    assert not wrong


def table() -> str:
    """Return the Markdown table: for each family, the smallest model at its training size."""
    lines = ["| family | smallest model | pixels | patches |", "|---|---|---|---|"]
    for family in sorted(timm.list_modules()):
        names = [name for name in timm.list_models(module=family) if not name.startswith("test_")]
        sizes = {name: _weights(name) for name in names}
        name = min(sizes, key=lambda name: (sizes[name], name))
        known = timm.get_pretrained_cfg(name)
        size = known.input_size[-1] if known else 224
        lines.append(f"| {family} | `{name}` | {size} | {outcome(name, size)} |")
    return "\n".join(lines) + "\n"


def _weights(name: str) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in timm.create_model(name, num_classes=0).parameters())


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    assert start + end, f"{PAGE} has lost the marks around its table"
    PAGE.write_text(before + start + table() + end + after, encoding="utf-8")
    sys.exit(0)
