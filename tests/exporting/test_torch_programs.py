"""Programs of ``torch.export``: the captioner's logits at any batch and length, and captions without this package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import captioner
from captioner.checkpoint import Checkpoint, load
from captioner.config import with_options
from captioner.errors import CheckpointError, UsageError
from captioner.exporting import export
from captioner.exporting.torch_programs import settings
from captioner.pipelines import CaptionPipeline

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "torch_export" / "caption.py"


@pytest.fixture(scope="module")
def exported(bilingual: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """Return a captioner with labels and mixed attention, and its programs."""
    checkpoint = load(bilingual)
    return checkpoint, export(checkpoint, tmp_path_factory.mktemp("torch") / "out", to="torch")


@pytest.mark.parametrize("images", [1, 3])
def test_same_logits_in_any_pieces(images: int, exported: tuple[Checkpoint, Path]) -> None:
    checkpoint, folder = exported
    encode, step = (torch.export.load(folder / name).module() for name in ("encoder.pt2", "step.pt2"))
    config = checkpoint.config.decoder
    pixels, tokens = torch.randn(images, 3, 64, 64), torch.randint(3, config.vocab_size, (images, 9))
    with torch.inference_mode():
        wanted = checkpoint.model(tokens[:, None], pixels).logits[:, 0]
        states = encode(pixels)[0]
        past = [torch.zeros(images, config.heads, 0, config.width // config.heads)] * (2 * config.layers)
        found = []
        for piece in tokens.split([1, 3, 1, 4], dim=1):
            logits, *past = step(piece, states, past)
            found.append(logits)
    assert wanted.std() > 0.5
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, atol=1e-4, rtol=1e-4)
    assert past[0].shape[2] == 9


@pytest.mark.parametrize("prefix", ["", "a small"])
def test_captions_without_this_package(
    prefix: str, exported: tuple[Checkpoint, Path], toy: Path, tmp_path: Path
) -> None:
    checkpoint = replace(exported[0], generation=with_options(exported[0].generation, {"prefix": prefix}))
    folder = Path(shutil.copytree(exported[1], tmp_path / "folder"))
    (folder / "captioner.json").write_text(json.dumps(settings(checkpoint)), encoding="utf-8")
    photos = sorted(str(path) for path in toy.rglob("*.png"))[:4]
    assert photos
    Image.open(photos[0]).resize((900, 700)).save(tmp_path / "large.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(photos[1]).crop((0, 0, 40, 60)).save(tmp_path / "turned.jpg", exif=turned)
    photos += [str(tmp_path / name) for name in ("large.jpg", "turned.jpg")]
    photos.append(str(ROOT / "datasets" / "photos" / "rocket.jpg"))  # it has a colour profile
    program = f"""
import runpy, sys
sys.modules["captioner"] = None
sys.modules["timm"] = None
sys.argv = {[str(SCRIPT), str(folder), *photos]!r}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    pipe = CaptionPipeline(checkpoint)
    wanted = [pipe.caption(photo, beams=1).text for photo in photos]
    assert done.stdout.splitlines() == [f"{photo}: {text}" for photo, text in zip(photos, wanted, strict=True)]
    assert len(set(wanted)) > 1


def test_settings(exported: tuple[Checkpoint, Path]) -> None:
    values = json.loads((exported[1] / "captioner.json").read_text(encoding="utf-8"))
    assert values["text"]["languages"] == {"en": 1, "zh": 3}
    assert values["past"] == {"tensors": 4, "heads": 2, "width": 16}
    assert values["labels"][0] == "circle"
    assert values["torch"] == torch.__version__


@pytest.mark.parametrize("written", ["now", "before targets had names"])
@pytest.mark.parametrize("opened", [captioner.load, load])
def test_is_no_captioner_of_this_package(
    opened: Any, written: str, exported: tuple[Checkpoint, Path], tmp_path: Path
) -> None:
    values = json.loads((exported[1] / "captioner.json").read_text(encoding="utf-8"))
    assert values["target"] == "torch"
    if written != "now":
        del values["target"]
    (tmp_path / "captioner.json").write_text(json.dumps(values), encoding="utf-8")
    told = r"is an export to torch, .*\(examples/torch_export/caption\.py\); name the checkpoint that it was made from$"
    with pytest.raises(CheckpointError, match=told):
        opened(tmp_path)


def test_example_needs_three_packages_only() -> None:
    lines = re.findall(r"^(?:import|from) (\w+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {line for line in lines if line not in sys.stdlib_module_names} == {"torch", "PIL", "tokenizers"}


def test_refuses_a_backbone_that_cannot_be_traced(
    learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any, **options: Any) -> None:
        raise RuntimeError("data-dependent\nlong text")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(UsageError, match=r"cannot trace the backbone test_efficientnet \(data-dependent\); choose"):
        export(load(learnt), tmp_path / "out", to="torch")
    assert not (tmp_path / "out").exists()
