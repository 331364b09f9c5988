"""A comparison of ways to combine layers and heads into one map of a word, by deletion and insertion of patches.

    python scripts/explain_ways.py --data DATA --held-out datasets/flickr8k/held_out.txt --images 60

The decoder loses encoded patches in the order of a map, or gets only these, and the area under the curve of the word's
probability is the score of the map (see ``explain_curves.py``). The photos are those that FILE holds out of training,
so that the photos of ``explain_curves.py`` stay unseen. Only content words with a probability of at least 5 % count.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from explain_curves import FUNCTION_WORDS, by_patches, interval
from torch import Tensor
from tqdm import tqdm

import captioner
from captioner.data.images import open_image
from captioner.data.sources import load_split
from captioner.data.splits import hold_out_named
from captioner.data.transforms import preprocess
from captioner.explain.explain import explain
from captioner.inference import AnyCheckpoint
from captioner.models.decoder import Block

Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", required=True, metavar="FILE")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--model")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    args = parser.parse_args()
    samples = hold_out_named(load_split(args.data, "train"), args.held_out)[1][: args.images]
    checkpoint = captioner.load(args.model, precision=args.precision).checkpoint
    with torch.inference_mode():
        print(table([ways(checkpoint, sample.path, sample.name) for sample in tqdm(samples, unit=" photos")]))


def ways(checkpoint: AnyCheckpoint, path: Path, name: str) -> dict[str, list[Array]]:
    """Return the patch areas (deletion, insertion) of every content word, for each combination of layers and heads."""
    explanation = explain(checkpoint, path)
    decoder = checkpoint.model.decoder
    config = checkpoint.config.preprocess
    pixels = preprocess(open_image(path, min_side=2 * config.size), config)[None]
    memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
    chance = np.random.default_rng([ord(char) for char in name])
    h, w = explanation.grid
    rows, columns = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
    norms = [
        value_norms(block.cross_attn.out_proj, memory.layers[n][1], torch.from_numpy(explanation.layers[n].weights))
        for n, block in enumerate(cast(list[Block], list(decoder.blocks)))
    ]  # (T, S) of each layer
    areas: dict[str, list[Array]] = {}
    for i, word in enumerate(explanation.words):
        if word in FUNCTION_WORDS or explanation.probabilities[i] < 0.05:
            continue
        tokens = slice(*explanation.spans[i])
        heads = [
            layer.weights[:, tokens].mean(1)[:, memory.prefix :] for layer in explanation.layers
        ]  # (H, h * w) each
        maps = {
            "mean of all": np.mean(heads, axis=(0, 1)),
            "mean of the later half": np.mean(heads[len(heads) // 2 :], axis=(0, 1)),
            "mean of the last layer": heads[-1].mean(0),
            "mean of the first layer": heads[0].mean(0),
            "highest of all": np.max(heads, axis=(0, 1)),
            "norm of weighted values": np.sum([n[tokens].mean(0)[memory.prefix :] for n in norms], axis=0),
            "another word's mean": np.delete(explanation.maps, i, 0)[chance.integers(len(explanation.words) - 1)],
            "centre": np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * 0.25**2)),
            "random": chance.random(h * w),
        }
        steps = by_patches(checkpoint, memory, list(maps.values()), explanation.tokens)[..., tokens].sum(-1)
        for kind, log_probs in zip(maps, steps, strict=True):  # (2, shares)
            areas.setdefault(kind, []).append(100 * np.exp(log_probs).mean(-1))
    return areas


def value_norms(project: torch.nn.Module, values: Tensor, weights: Tensor) -> Array:
    """Return the norms of the weighted values (Kobayashi et al. 2020, arXiv 2004.10102) by token and patch: (T, S)."""
    heads, patches, width = values.shape[1:]
    by_head = torch.zeros(heads, patches, heads, width)
    for head in range(heads):
        by_head[head, :, head] = values[0, head]
    bias = project(torch.zeros(1, heads * width))
    projected = (project(by_head.flatten(2).flatten(0, 1)) - bias).view(heads, patches, -1).float()  # (H, S, D)
    return torch.einsum("hts,hsd->tsd", weights.float(), projected).norm(dim=-1).numpy()


def table(done: Sequence[dict[str, list[Array]]]) -> str:
    done = [areas for areas in done if areas]
    lines = [f"{len(done)} photos, {sum(len(areas['random']) for areas in done)} words", ""]
    lines += [
        "| combination | patch deletion, % | minus random | patch insertion, % | minus random |",
        "|---|---|---|---|---|",
    ]
    for kind in done[0]:
        own, base = (np.array([np.mean(areas[k], axis=0) for areas in done]) for k in (kind, "random"))  # (photos, 2)
        cells = [text for n in (0, 1) for text in (f"{own[:, n].mean():.2f}", interval(own[:, n] - base[:, n]))]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
