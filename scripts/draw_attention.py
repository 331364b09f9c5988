"""A drawing and a table of the gates and centres of mixed attention over held-out photos.

    python scripts/draw_attention.py CHECKPOINT... --data ../shared/flickr8k --out docs/attention.svg

Each checkpoint (such as several seeds of one recipe) reads the first reference caption of held-out photos. Per layer,
the drawing shows histograms of the gates (1 is global attention) to the previous words and to the image, the positions
of the local attention in the image, and each head's mean position with its spread. The table shows how much the
position moves with the word and with the photo: a position that does not move is a fixed window.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint, load
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.data.splits import hold_out_named
from captioner.errors import UsageError
from captioner.explain.explain import explain
from captioner.layers.attention import SelfAttention

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT / "datasets" / "flickr8k" / "held_out.txt"
BINS = 20
Array = np.ndarray[Any, Any]


@dataclass
class Layer:
    """The attention of one layer, with a list entry per photo: heads first, then words."""

    word_gates: list[Array] = field(default_factory=list)  # (H, T)
    image_gates: list[Array] = field(default_factory=list)  # (H, T)
    points: list[Array] = field(default_factory=list)  # (H, T, 2), row and column
    spreads: list[Array] = field(default_factory=list)  # (H, T)


def watch(checkpoint: Checkpoint, samples: list[Sample]) -> list[Layer]:
    """Return the attention of every layer for every photo with its first caption."""
    blocks = [module for module in checkpoint.model.decoder.modules() if isinstance(module, SelfAttention)]
    layers = [Layer() for _ in blocks]
    hooks = [
        block.read.gate.register_forward_hook(_keep(layer))
        for block, layer in zip(blocks, layers, strict=True)
        if block.read.kind == "M"
    ]
    for sample in samples:
        explanation = explain(checkpoint, sample.image(), caption=sample.captions[0])
        for layer, read in zip(layers, explanation.layers, strict=True):
            assert read.gate is not None
            assert read.point is not None
            assert read.spread is not None
            layer.image_gates.append(read.gate)
            layer.points.append(read.point)
            layer.spreads.append(read.spread)
    for hook in hooks:
        hook.remove()
    return layers


def _keep(layer: Layer) -> Any:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        layer.word_gates.append(torch.sigmoid(logits)[0].T.float().cpu().numpy())  # (1, T, H) -> (H, T)

    return hook


def table(layers: list[Layer]) -> str:
    lines = [
        "| layer | gate to previous words | gate to the image | position: row, column | moves with the word "
        "| moves with the photo | spread |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, layer in enumerate(layers):
        words, images = flat(layer.word_gates), flat(layer.image_gates)
        points, spreads = flat(layer.points), flat(layer.spreads)
        row, column = points.reshape(-1, 2).mean(0)
        within = np.sqrt(np.mean([photo.var(1).sum(-1) for photo in layer.points]))
        between = np.sqrt(np.var([photo.mean(1) for photo in layer.points], axis=0).sum(-1).mean())
        lines.append(
            f"| {n + 1} | {quantiles(words)} | {quantiles(images)} | {row:.2f}, {column:.2f} "
            f"| {within:.2f} | {between:.2f} | {quantiles(spreads)} |"
        )
    return "\n".join(lines)


def flat(parts: list[Array]) -> Array:
    """Return the words of all photos side by side: (H, words, ...)."""
    return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0))


def quantiles(values: Array) -> str:
    """Return the median, and the 5 % and 95 % quantiles."""
    if not values.size:
        return "-"
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


SIDE, APART, TOP, LEFT = 150, 190, 46, 70


def drawing(layers: list[Layer]) -> str:
    """Return an SVG with a row per layer: both gates, the positions of all heads, the heads' mean positions."""
    titles = ("gate to previous words", "gate to the image", "positions of local attention", "heads: mean and spread")
    width, height = LEFT + APART * len(titles), TOP + APART * len(layers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11" role="img" aria-label="Gates and centres of mixed attention, layer by layer">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *(f'<text x="{LEFT + APART * n}" y="20" font-weight="bold">{title}</text>' for n, title in enumerate(titles)),
    ]
    for n, layer in enumerate(layers):
        y = TOP + APART * n
        parts.append(f'<text x="8" y="{y + SIDE / 2}">layer {n + 1}</text>')
        parts += gates(flat(layer.word_gates), LEFT, y)
        parts += gates(flat(layer.image_gates), LEFT + APART, y)
        points, spreads = flat(layer.points), flat(layer.spreads)
        parts += places(points.reshape(-1, 2), LEFT + 2 * APART, y)
        parts += heads(points.mean(1), spreads.mean(1), LEFT + 3 * APART, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def gates(values: Array, x: float, y: float) -> list[str]:
    """Return a histogram of the gate over words and heads: 0 is purely local, 1 purely global."""
    shares, _ = np.histogram(values, bins=BINS, range=(0, 1))
    shares = shares / max(1, shares.max())
    step = SIDE / BINS
    bars = [
        f'<rect x="{x + n * step:.1f}" y="{y + SIDE * (1 - share):.1f}" width="{step - 1:.1f}" '
        f'height="{SIDE * share:.1f}" fill="#0b57d0"/>'
        for n, share in enumerate(shares)
    ]
    ends = [f'<text x="{x}" y="{y + SIDE + 14}">0 local</text>']
    ends.append(f'<text x="{x + SIDE}" y="{y + SIDE + 14}" text-anchor="end">1 global</text>')
    return [frame(x, y), *bars, *ends]


def places(points: Array, x: float, y: float) -> list[str]:
    """Return a map of the positions in the image; darker is more frequent."""
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=BINS, range=((0, 1), (0, 1)))
    counts = np.sqrt(counts / max(1, counts.max()))  # the square root makes rare positions visible
    step = SIDE / BINS
    cells = [
        f'<rect x="{x + column * step:.1f}" y="{y + row * step:.1f}" width="{step:.1f}" height="{step:.1f}" '
        f'fill="#0b57d0" fill-opacity="{counts[row, column]:.2f}"/>'
        for row, column in zip(*counts.nonzero(), strict=True)
    ]
    return [frame(x, y), *cells]


def heads(centres: Array, spreads: Array, x: float, y: float) -> list[str]:
    """Return a dot at each head's mean position and a circle of one standard deviation, from (H, 2) and (H,)."""
    parts = [frame(x, y)]
    for (row, column), spread in zip(centres, spreads, strict=True):
        place = f'cx="{x + SIDE * column:.1f}" cy="{y + SIDE * row:.1f}"'
        radius = min(SIDE * spread, SIDE / 2)
        parts.append(f'<circle {place} r="{radius:.1f}" fill="none" stroke="#0b57d0" stroke-opacity="0.5"/>')
        parts.append(f'<circle {place} r="3" fill="#c0392b"/>')
    return parts


def frame(x: float, y: float) -> str:
    return f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", help="of mixed attention (default: the shipped model)")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "flickr8k"))
    parser.add_argument("--photos", type=int, default=200, help="number of held-out photos")
    parser.add_argument("--out", type=Path, required=True, help="SVG file of the drawing")
    args = parser.parse_args()
    _, held_out = hold_out_named(load_split(args.data, "train"), HELD_OUT)
    drawn = False
    for source in args.checkpoints or [None]:
        checkpoint = load(source)
        decoder = checkpoint.config.decoder
        if set(decoder.cross_pattern) != {"M"}:
            raise UsageError(f"{source} has layers without mixed attention to the image; choose another checkpoint")
        layers = watch(checkpoint, list(held_out)[: args.photos])
        print(f"{source or 'shipped model'}\n\n{table(layers)}\n", flush=True)
        if not drawn:  # tables of all checkpoints, a drawing of the first
            args.out.write_text(drawing(layers), encoding="utf-8")
            drawn = True


if __name__ == "__main__":
    main()
