"""A benchmark: the effect of precision, refinement and reranking on captions, as a Markdown table.

    python scripts/bench_quality.py ../shared/flickr8k [--rows bf16 int8 refine-1 ...] [--split dev] [--images N]

Every row is a beam search with 5 beams; ``same`` is the share of captions equal to those of the first row, plain fp32.
``captioner evaluate`` with the options of a row prints the same scores.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch

from captioner.captioning.batches import generate
from captioner.checkpoint import load
from captioner.config import with_options
from captioner.data.sources import read_splits
from captioner.errors import ImageError
from captioner.inference import Precision, prepare
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.diversity import diversity
from captioner.metrics.words import words

CONSENSUS = {"candidates": 5, "rerank": "consensus"}
ROWS: dict[str, tuple[Precision, dict[str, Any], str]] = {
    "fp32": ("fp32", {}, ""),
    "bf16": ("bf16", {}, "--precision bf16"),
    "int8": ("int8", {}, "--precision int8"),
    "consensus": ("fp32", CONSENSUS, "--candidates 5 --rerank consensus"),
    "refine-1": ("fp32", {"refine": 1}, "--refine 1"),
    "refine-2": ("fp32", {"refine": 2}, "--refine 2"),
    "refine-2-consensus": ("fp32", {"refine": 2, **CONSENSUS}, "--refine 2 --candidates 5 --rerank consensus"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder or file of captioned images")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows after fp32 (default: all)")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--images", type=int, help="number of images (default: all)")
    parser.add_argument("--model", help="checkpoint directory or hub id (default: the shipped model)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    samples = read_splits(args.data).split(args.split)[: args.images]
    references = [[words(caption) for caption in sample.captions] for sample in samples]
    print(f"{len(samples)} images of {args.split}, {args.threads} threads, torch {torch.__version__}\n")
    heads = ["beam 5 with", "BLEU-4", "CIDEr-D", "same", "distinct", "repeat themselves", "images/s"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    first: list[str] = []
    for name in dict.fromkeys(("fp32", *args.rows)):
        precision, options, shown = ROWS[name]
        checkpoint = prepare(load(args.model), precision, keep=False)
        config = with_options(replace(checkpoint.generation, beams=5), options)
        began = time.perf_counter()
        captions = [
            "" if isinstance(result, ImageError) else checkpoint.tokenizer.decode(result[0].tokens)
            for result in generate(checkpoint, (sample.path for sample in samples), config)
        ]
        seconds = time.perf_counter() - began
        first = first or captions
        same = sum(caption == other for caption, other in zip(captions, first, strict=True)) / len(captions)
        candidates = [words(caption) for caption in captions]
        variety = diversity(candidates)
        values = [
            f"`{shown}`" if shown else "plain fp32",
            f"{bleu(candidates, references).bleu4:.2f}",
            f"{cider_d(candidates, references).mean:.2f}",
            f"{same:.1%}",
            f"{variety.distinct_captions:.1f} %",
            f"{variety.repetitive:.1f} %",
            f"{len(captions) / seconds:.1f}",
        ]
        print(f"| {' | '.join(values)} |", flush=True)


if __name__ == "__main__":
    main()
