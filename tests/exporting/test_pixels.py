"""The examples in JavaScript resize as Pillow does, to the last bit (run by Node)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.config import PreprocessConfig
from captioner.data.transforms import fit, preprocess
from captioner.exporting.vision_encoder_decoder import processor_settings

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node")
MODULE = Path(__file__).resolve().parents[2] / "examples" / "pixels.mjs"
SCRIPT = """
import { fit, normalised } from %s;
import { readFileSync } from "node:fs";
const { width, height, data, settings } = JSON.parse(readFileSync(0));
const bytes = Uint8Array.from(Buffer.from(data, "base64"));
const square = fit(bytes, width, height, settings);
const values = Buffer.from(normalised(square, settings).buffer).toString("base64");
console.log(JSON.stringify({ square: Buffer.from(square).toString("base64"), values }));
"""


def by_script(image: Image.Image, config: PreprocessConfig) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    data = base64.b64encode(image.tobytes()).decode()
    given = {"width": image.width, "height": image.height, "data": data, "settings": processor_settings(config)}
    script = SCRIPT % json.dumps(MODULE.as_uri())
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", script],
        input=json.dumps(given).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    square = np.frombuffer(base64.b64decode(found["square"]), dtype=np.uint8).reshape(config.size, config.size, 3)
    values = np.frombuffer(base64.b64decode(found["values"]), dtype=np.float32).reshape(3, config.size, config.size)
    return square, values


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ((500, 375), {"size": 280}),
        ((300, 411), {"size": 224, "interpolation": "bilinear", "mean": (0.485, 0.456, 0.406), "std": (0.2, 0.3, 0.4)}),
        ((97, 33), {"size": 64}),
        ((40, 90), {"size": 64}),
        ((90, 117), {"size": 64}),
        ((1, 1), {"size": 8}),
        ((131, 200), {"size": 48, "aspect": "crop"}),
        ((131, 90), {"size": 48, "aspect": "crop", "zoom": 1.125, "interpolation": "bilinear"}),
        ((131, 90), {"size": 48, "zoom": 1.125}),
        ((60, 401), {"size": 32}),
        ((401, 233), {"size": 32, "interpolation": "bilinear"}),
        ((1000, 777), {"size": 48, "zoom": 1.125}),
        ((403, 300), {"size": 32, "aspect": "crop", "zoom": 1.125}),
        ((777, 1013), {"size": 32, "aspect": "crop", "interpolation": "bilinear"}),
        ((4000, 3000), {"size": 280}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pixels_are_pillows(size: tuple[int, int], changes: dict[str, Any], mode: str) -> None:
    """Larger, smaller, tall, cropped, and so large that Pillow averages blocks of pixels first."""
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image, config = Image.fromarray(noise), PreprocessConfig(**changes)
    square, values = by_script(image.convert(mode), config)
    assert np.array_equal(square, np.asarray(fit(image, config)))
    assert np.abs(values - preprocess(image, config).numpy()).max() < 1e-6
