"""Random encoders of transformers, imported, beside the originals."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from captioner.checkpoint.hugging_face.encoders import encoder_config, encoder_weights
from captioner.config import PreprocessConfig
from captioner.models.fit import load_weights
from captioner.models.vision import EncodedImage, VisionEncoder

_SCALES = re.compile(r"(norm\w*\.weight|lambda_?\d)$")


@torch.no_grad()
def randomise(model: Any, seed: int) -> None:
    """Set every parameter to a random value; norms and layer scales are around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        around = 1.0 if _SCALES.search(name) else 0.0
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.copy_(around + noise * (0.3 if around or parameter.ndim == 1 else min(0.5, 2 * fan**-0.5)))


def imported(values: Mapping[str, Any], state: Mapping[str, Tensor], size: int, width: int) -> VisionEncoder:
    """Return a VisionEncoder with the imported weights, without a projection."""
    config = encoder_config(values, project=False, source="it", size=size)
    vision = VisionEncoder(config, PreprocessConfig(size=size), width).eval()
    weights = encoder_weights(values, state, "it", size)
    load_weights(vision, {f"backbone.{name}": value for name, value in weights.items()}, "it")
    return vision


@pytest.fixture
def same_features(tmp_path: Path) -> Callable[..., EncodedImage]:
    """Return ``check(model, seed, size=...)``: that the features are the original's, from a file and from memory."""

    def check(model: Any, seed: int, *, size: int | None = None) -> EncodedImage:
        model = model.eval()
        randomise(model, seed)
        values = model.config.to_dict()
        side = size or values["image_size"]
        pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():  # fp64 tells a wrong formula from rounding
            wanted = copy.deepcopy(model).double()(pixels.double()).last_hidden_state
        assert wanted.std() > 0.3  # far from flat, or agreement would prove little
        model.save_pretrained(tmp_path)
        saved = load_file(tmp_path / "model.safetensors")  # version 4's names
        for state in (saved, model.state_dict()):  # version 5's names
            vision = imported(values, state, side, wanted.shape[-1]).double()
            with torch.inference_mode():
                found = vision(pixels.double())
            torch.testing.assert_close(found.tokens, wanted, atol=1e-6, rtol=0)
        assert found.tokens.shape[1] == found.prefix + found.grid[0] * found.grid[1]
        return found

    return check
