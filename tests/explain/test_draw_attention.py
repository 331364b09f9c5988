"""The drawing of gates and centres shows the model's own values."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.data.samples import Sample

PARTS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "draw_attention.py"))


def test_gates_and_aims_set_by_hand(make: Callable[..., Checkpoint], photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "photo.png")
    checkpoint = make("M", words="M")
    with torch.no_grad():
        for block in checkpoint.model.decoder.blocks:
            for gate, opening in ((block.self_attn.read.gate, 9.0), (block.cross_attn.read.gate, -9.0)):
                gate.weight.zero_()
                gate.bias.fill_(opening)
            block.cross_attn.focus.point.weight.zero_()
            block.cross_attn.focus.point.bias.zero_()
    caption = "a red dog runs on the grass and a boat on the water"
    sample = Sample(name="photo.png", path=tmp_path / "photo.png", captions=(caption,))
    layers = PARTS["watch"](checkpoint, [sample, sample])
    words = len(checkpoint.tokenizer.encode(caption))
    assert len(layers) == 2
    for layer in layers:
        assert (
            [part.shape for part in layer.word_gates] == [part.shape for part in layer.image_gates] == [(2, words)] * 2
        )
    for row in PARTS["table"](layers).splitlines()[2:]:
        assert "| 1.00 (1.00 to 1.00) | 0.00 (0.00 to 0.00) | 0.50, 0.50 | 0.00 | 0.00 |" in row
    drawing = ElementTree.fromstring(PARTS["drawing"](layers))
    assert (
        len([shape for shape in drawing.iter() if shape.tag.endswith("circle")]) == 2 * 2 * 2
    )  # layers, heads, dot and ring
