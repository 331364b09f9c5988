"""Deletion and insertion curves of the maps of ``captioner explain``, compared with random and centre maps.

    python scripts/explain_curves.py --data DATA --split dev --images 100 --out runs/curves

Petsiuk et al. 2018 (RISE, arXiv 1806.07421): after deleting the pixels with the highest values of a map, a word should
soon become improbable; after inserting them into a blurred photo, it should soon become probable. The score of a map is
the area under the curve of the word's probability, given the previous words. A meaningless map scores like a random
one. Photographers put their subject in the centre, so a Gaussian in the centre is a strong baseline.

Every photo contributes the caption from the model's own search, and two of its content words, chosen by the photo's
name. ``OUT/curves.jsonl`` holds a line per photo; repeat the command to resume. ``OUT/curves.svg`` shows the curves,
and stdout a Markdown table with 95 % bootstrap intervals over photos. ``patch deletion`` and ``patch insertion`` remove
encoded patches from the decoder instead of pixels from the photo: they are cheap, and ignore the receptive field of a
patch.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from tqdm import tqdm

import captioner
from captioner.data.images import open_image
from captioner.data.sources import load_split
from captioner.data.transforms import fit, preprocess
from captioner.explain.explain import explain
from captioner.inference import AnyCheckpoint
from captioner.metrics.function_words import BASIC_FUNCTION_WORDS
from captioner.models.decoder import ImageMemory

SHARES = (0.2, 0.4, 0.6, 0.8)  # shares of the photo, deleted or inserted; 0 and 1 need no map
BLUR = 1 / 18  # share of the photo's side: half a patch of the shipped model
# Words that are not measured. Figures in docs/explain.md were measured with this list.
_MEASURED = (
    "another be been being down has have he him onto or other she some them there these they those under was which"
)
FUNCTION_WORDS = BASIC_FUNCTION_WORDS - {*_MEASURED.split(), "who", "without"}
KINDS = ("mixed", "global", "local", "other word", "centre", "random")
Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument(
        "--images", type=int, default=100, help="number of images, drawn from the split with a fixed seed"
    )
    parser.add_argument("--model")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--out", default="runs/curves")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "curves.jsonl"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    samples = load_split(args.data, args.split)
    samples = random.Random(0).sample(samples, min(args.images, len(samples)))
    missing = [sample for sample in samples if sample.name not in {record["name"] for record in done}]
    if missing:
        checkpoint = captioner.load(args.model, precision=args.precision).checkpoint
        with journal.open("a") as file, torch.inference_mode():
            for sample in tqdm(missing, unit=" photos"):
                if record := measured(checkpoint, sample.path, sample.name):
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    done.append(record)
    (out / "curves.svg").write_text(chart(done), encoding="utf-8")
    print(table(done))


def measured(checkpoint: AnyCheckpoint, path: Path, name: str) -> dict[str, Any] | None:
    """Return the log-probabilities of two words, and of the whole caption, along every curve of one photo."""
    explanation = explain(checkpoint, path)
    chance = random.Random(name)
    content = [i for i, word in enumerate(explanation.words) if word not in FUNCTION_WORDS]
    if len(content) < 2 or explanation.global_maps is None or explanation.local_maps is None:
        return None
    chosen = sorted(chance.sample(content, 2))
    h, w = explanation.grid
    rows, columns = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
    whole = {
        "centre": np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * 0.25**2)),
        "random": np.array([chance.random() for _ in range(h * w)]).reshape(h, w),
        "caption": explanation.maps.mean(0),
    }
    maps: dict[tuple[str, int | None], Array] = {(kind, None): values for kind, values in whole.items()}
    for i in chosen:
        word_maps = {
            "mixed": explanation.maps[i],
            "global": explanation.global_maps[i],
            "local": explanation.local_maps[i],
        }
        maps.update({(kind, i): values for kind, values in word_maps.items()})

    config, model = checkpoint.config.preprocess, checkpoint.model
    square = fit(open_image(path, min_side=2 * config.size), config)
    blurred = square.filter(ImageFilter.GaussianBlur(config.size * BLUR))
    full, blur = preprocess(square, config), preprocess(blurred, config)
    grey = torch.zeros_like(full)
    views = [full, grey, blur]
    for values in maps.values():
        views += along(values, full, grey, blur)
    memories = [model.remember(model.encode_image(torch.stack(views[i : i + 16]))) for i in range(0, len(views), 16)]
    log_probs = np.concatenate([token_log_probs(checkpoint, m, explanation.tokens) for m in memories])  # (views, T)
    begin, blank, blind = log_probs[:3]
    steps = log_probs[3:].reshape(len(maps), 2, len(SHARES), -1)  # (maps, deletion and insertion, shares, T)
    memory = model.remember(model.encode_image(full[None]))
    patches = by_patches(checkpoint, memory, list(maps.values()), explanation.tokens)  # (maps, 2, shares, T)

    def curves(kind: str, word: int | None, tokens: slice) -> dict[str, list[float]]:
        """Return summed log-probabilities of the tokens along the curves of a map."""
        n = list(maps).index((kind, word))
        deletion, insertion = (part[:, tokens].sum(-1) for part in steps[n])
        patch_deletion, patch_insertion = (part[:, tokens].sum(-1) for part in patches[n])
        first, last, blurry = (part[tokens].sum() for part in (begin, blank, blind))
        return {
            "deletion": [first, *deletion, last],
            "insertion": [blurry, *insertion, first],
            "patch deletion": [first, *patch_deletion],
            "patch insertion": [*patch_insertion, first],
        }

    words = []
    for i, other in zip(chosen, chosen[::-1], strict=True):
        tokens = slice(*explanation.spans[i])
        sources = [(kind, i) for kind in ("mixed", "global", "local")] + [("centre", None), ("random", None)]
        by_kind = {kind: curves(kind, word, tokens) for kind, word in sources}
        by_kind["other word"] = curves("mixed", other, tokens)
        words.append({"curves": {kind: {m: rounded(c) for m, c in modes.items()} for kind, modes in by_kind.items()}})
    everything = slice(0, len(explanation.tokens))
    caption = {kind: curves(kind, None, everything) for kind in whole}
    return {
        "name": name,
        "words": words,
        "caption": {kind: {mode: rounded(c) for mode, c in modes.items()} for kind, modes in caption.items()},
        "tokens": len(explanation.tokens),
    }


def along(values: Array, full: Tensor, grey: Tensor, blur: Tensor) -> list[Tensor]:
    """Return the views of a map: the photo with growing shares deleted, then growing shares in the blurred photo."""
    size = full.shape[-1]
    resized = Image.fromarray(values.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    order = np.argsort(-np.asarray(resized).ravel(), kind="stable")
    rank = torch.empty(size * size, dtype=torch.long)
    rank[torch.from_numpy(order.copy())] = torch.arange(size * size)
    marked = [(rank < round(share * size * size)).view(size, size) for share in SHARES]
    return [torch.where(m, grey, full) for m in marked] + [torch.where(m, full, blur) for m in marked]


def by_patches(checkpoint: AnyCheckpoint, memory: ImageMemory, maps: Sequence[Array], tokens: Sequence[int]) -> Array:
    """Return log-probabilities (maps, 2, shares, T) without the top patches of each map, and with only these."""
    order = np.stack([np.argsort(-values.ravel(), kind="stable") for values in maps])  # (maps, h * w)
    prefix = torch.arange(memory.prefix).expand(len(maps), -1)
    curves: list[list[Array]] = [[], []]
    for share in SHARES:
        count = round(share * order.shape[1])
        for part, kept in zip(curves, (order[:, count:], order[:, :count]), strict=True):
            rows = torch.from_numpy(np.sort(kept))  # (maps, kept)
            positions = torch.cat([prefix, rows + memory.prefix], dim=1)

            def select(values: Tensor, positions: Tensor = positions) -> Tensor:
                return values[0].transpose(0, 1)[positions].transpose(1, 2)  # (maps, H, kept, Dh)

            layers = tuple((select(k), select(v)) for k, v in memory.layers)
            centres = memory.centres[rows][:, None, None]  # every map keeps other patches
            part.append(token_log_probs(checkpoint, ImageMemory(layers, centres, memory.prefix), tokens))
    return np.array(curves).transpose(2, 0, 1, 3)


def token_log_probs(checkpoint: AnyCheckpoint, memory: ImageMemory, tokens: Sequence[int]) -> Array:
    """Return log p of each of the T tokens given the previous ones, for every image in ``memory``: (B, T)."""
    inputs = torch.tensor([[checkpoint.config.text.bos_id, *tokens[:-1]]]).expand(memory.images, -1)
    log_probs = checkpoint.model.decoder(inputs, memory).float().log_softmax(-1)  # (B, T, V)
    targets = torch.tensor([*tokens])[None, :, None].expand(memory.images, -1, -1)
    return log_probs.gather(-1, targets).squeeze(-1).double().numpy()


def rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


def areas(done: Sequence[dict[str, Any]], mode: str, kind: str) -> Array:
    """Return for each photo the mean area under its two words' curves of probability, in percent."""
    return np.array([[100 * area(np.exp(word["curves"][kind][mode])) for word in r["words"]] for r in done]).mean(1)


def area(values: Array) -> float:
    return float(((values[1:] + values[:-1]) / 2).mean())


def caption_areas(done: Sequence[dict[str, Any]], mode: str, kind: str) -> Array:
    """Return for each photo the area under the curve of the caption's mean log-probability per token."""
    return np.array([area(np.array(r["caption"][kind][mode]) / r["tokens"]) for r in done])


def interval(values: Array) -> str:
    """Return the mean and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(values[draws].mean(1), (2.5, 97.5))
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def table(done: Sequence[dict[str, Any]]) -> str:
    """Return a table of areas, and of their differences from the two baselines on the same photos."""
    lines = [f"{len(done)} photos, {sum(len(r['words']) for r in done)} words"]
    for mode in ("deletion", "insertion", "patch deletion", "patch insertion"):
        better = "lower" if "deletion" in mode else "higher"
        lines += ["", f"| {mode} ({better} is better) | area, % | minus random | minus centre |", "|---|---|---|---|"]
        centre, chance = areas(done, mode, "centre"), areas(done, mode, "random")
        for kind in KINDS:
            own = areas(done, mode, kind)
            less = [
                interval(own - base) if kind != name else "" for name, base in (("random", chance), ("centre", centre))
            ]
            lines.append(f"| {kind} | {interval(own)} | {' | '.join(less)} |")
    lines += ["", "| caption, log-probability per token | deletion | insertion |", "|---|---|---|"]
    for kind in ("caption", "centre", "random"):
        lines.append(
            f"| {kind} | "
            + " | ".join(interval(caption_areas(done, m, kind)) for m in ("deletion", "insertion"))
            + " |"
        )
    return "\n".join(lines)


COLOURS = dict(zip(KINDS, ("#0b57d0", "#2a9d8f", "#8e44ad", "#9a6700", "#c0392b", "#777777"), strict=True))
DASHES = dict(zip(KINDS, ("", "", "", "6 3", "2 3", "8 3 2 3"), strict=True))


def chart(done: Sequence[dict[str, Any]]) -> str:
    """Return an SVG of the mean curves of the words' probability, deletion beside insertion."""
    width, height, left, top, apart = 400, 230, 46, 34, 480
    means = {
        (mode, kind): np.mean([np.exp(word["curves"][kind][mode]) for r in done for word in r["words"]], axis=0)
        for mode in ("deletion", "insertion")
        for kind in KINDS
    }
    highest = math.ceil(10 * max(values.max() for values in means.values())) / 10
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 310" font-family="sans-serif" font-size="12" '
        'role="img" aria-label="Mean probability of words along deletion and insertion curves">',
        '<rect width="960" height="310" fill="#fff"/>',
    ]
    for n, mode in enumerate(("deletion", "insertion")):
        x0 = left + n * apart
        parts.append(f'<text x="{x0}" y="{top - 14}" font-weight="bold">{mode}: probability of the word</text>')
        for tick in range(6):
            y, x = top + height * (1 - tick / 5), x0 + width * tick / 5
            parts.append(f'<path d="M{x0} {y:.0f}h{width}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4:.0f}" text-anchor="end">{highest * tick / 5:.2f}</text>')
            parts.append(f'<text x="{x:.0f}" y="{top + height + 16}" text-anchor="middle">{20 * tick} %</text>')
        for kind in KINDS:
            values = means[mode, kind]
            xs = x0 + width * np.linspace(0, 1, len(values))
            ys = top + height * (1 - values / highest)
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2" '
                f'stroke-dasharray="{DASHES[kind]}"/>'
            )
    for n, kind in enumerate(KINDS):
        x, y = left + 145 * n, top + height + 36
        parts.append(
            f'<path d="M{x} {y}h30" stroke="{COLOURS[kind]}" stroke-width="2" stroke-dasharray="{DASHES[kind]}"/>'
            f'<text x="{x + 36}" y="{y + 4}">{kind}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
