"""transformers.js in Node writes the tokens of Python's greedy search."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node")


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
    for script in ("scripts/caption_node.mjs", "examples/pixels.mjs"):
        shutil.copy(ROOT / script, modules)
    command = ["node", str(modules / "caption_node.mjs"), str(out), "fp32", "pixels", str(tmp_path / "list.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    captions = json.loads(done.stdout.splitlines()[-1])["captions"]
    assert captions == [caption.text for caption in pipe.caption(photos, beams=1)]
