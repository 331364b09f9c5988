"""Node: Pillow's resize to the last bit, and transformers.js with the tokens of Python's greedy search."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node")
RESIZE = """
import { readFileSync, writeFileSync } from 'node:fs';
import { squash } from %s;
const [file, width, height, size, resample, out] = process.argv.slice(2);
writeFileSync(out, squash(readFileSync(file), +width, +height, +size, +resample));
"""


@needs_node
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("sides", [(97, 64), (32, 50), (31, 20), (401, 233), (40, 60), (60, 401)])
def test_resizes_as_pillow_does(sides: tuple[int, int], resample: Image.Resampling, tmp_path: Path) -> None:
    """Larger, smaller, unchanged in one direction, so large that blocks are averaged first, and tall."""
    pixels = np.random.default_rng(0).integers(0, 256, (sides[1], sides[0], 3), np.uint8)
    (tmp_path / "in").write_bytes(pixels.tobytes())
    script = RESIZE % json.dumps((ROOT / "examples" / "node" / "pillow.mjs").as_uri())
    (tmp_path / "resize.mjs").write_text(script)
    arguments = [tmp_path / "in", *sides, 32, int(resample), tmp_path / "out"]
    assert NODE is not None
    subprocess.run([NODE, tmp_path / "resize.mjs", *map(str, arguments)], check=True)
    expected = Image.fromarray(pixels).resize((32, 32), resample, reducing_gap=3.0)
    assert (tmp_path / "out").read_bytes() == np.asarray(expected).tobytes()


@pytest.mark.slow
@needs_node
def test_captions_of_transformers_js(bilingual: Path, toy: Path, tmp_path: Path) -> None:
    """Every caption in fp32 is torch's; ``$CAPTIONER_NODE`` is a folder with transformers.js in its node_modules."""
    modules = Path(os.environ.get("CAPTIONER_NODE", "/nowhere"))
    if not (modules / "node_modules" / "@huggingface" / "transformers").exists():
        pytest.skip("no transformers.js; npm install it and set CAPTIONER_NODE")
    import captioner
    from captioner.checkpoint import load

    out = captioner.export(load(bilingual), tmp_path / "model", to="onnx")
    pipe = captioner.load(bilingual, device="cpu")
    photos = sorted(toy.rglob("*.png"))[:8]
    files = [tmp_path / f"{number}.f32" for number in range(len(photos))]
    for photo, file in zip(photos, files, strict=True):
        file.write_bytes(pipe.transform(photo).contiguous().numpy().tobytes())
    (tmp_path / "list.json").write_text(json.dumps(list(map(str, files))))
    for script in ("scripts/caption_node.mjs", "examples/node/pillow.mjs"):
        shutil.copy(ROOT / script, modules)
    command = ["node", str(modules / "caption_node.mjs"), str(out), "fp32", "pixels", str(tmp_path / "list.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    captions = json.loads(done.stdout.splitlines()[-1])["captions"]
    assert captions == [caption.text for caption in pipe.caption(photos, beams=1)]
