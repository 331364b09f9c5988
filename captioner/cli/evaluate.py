"""Judge a captioner on a dataset: BLEU, CIDEr-D and perplexity beside a floor and a control."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from captioner.cli.options import add_generation, add_model, generation_options

if TYPE_CHECKING:
    from captioner.config import GenerationConfig
    from captioner.evaluation.evaluate import Evaluation, Scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="folder or file of captioned images")
    parser.add_argument("--split", default="dev", help="train, dev, test or all (default: dev)")
    parser.add_argument("--aspect", choices=("squash", "crop", "pad"), help="try another aspect rule than the model's")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    add_model(parser)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from captioner.config import with_options
    from captioner.data.sources import read_splits
    from captioner.errors import UsageError

    options = generation_options(args)
    dataset = read_splits(args.data)
    samples = dataset.split(args.split)
    if not samples:
        raise UsageError(f"the split {args.split} of {args.data} is empty; choose another one with --split")

    from captioner.checkpoint import load
    from captioner.evaluation.evaluate import evaluate
    from captioner.models.precision import for_inference
    from captioner.pipelines import choose_device

    for problem in dataset.problems:
        print(f"captioner: {problem}", file=sys.stderr)
    checkpoint = load(args.model, device=choose_device(args.device))
    for_inference(checkpoint.model, args.precision)
    if args.aspect:
        config = checkpoint.model.config
        checkpoint.model.config = replace(config, preprocess=replace(config.preprocess, aspect=args.aspect))
    generation = with_options(checkpoint.generation, options)
    with tqdm(total=len(samples), unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        found = evaluate(checkpoint, samples, generation, batch_size=args.batch_size, progress=bar.update)
    for problem in found.problems:
        print(f"captioner: {problem}", file=sys.stderr)
    title = f"{args.model or 'shipped model'} on {args.split}"
    print(json.dumps(figures(found)) if args.json else table(found, title))
    return 1 if found.problems else 0


def table(found: Evaluation, title: str) -> str:
    """The report as a Markdown table, with everything that the scores depend on below it."""
    rows = [
        (title, found.model),
        ("one caption for all images (floor)", found.floor),
        ("captions of other images (control)", found.shuffled),
    ]
    lines = ["| | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | CIDEr-D |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | " + " | ".join(f"{value:.2f}" for value in _row(scores)) + " |" for name, scores in rows]
    generation = found.generation
    lines += [
        "",
        f"perplexity per word {found.perplexity:.2f}; confidence: calibration error {found.calibration_error:.1f}, "
        f"rank correlation with CIDEr-D {found.confidence_rank:.2f}",
        f"captions: {found.diversity.distinct_captions:.1f} % distinct, {found.diversity.length:.1f} words each of "
        f"{found.diversity.vocabulary}, {found.diversity.repetitive:.1f} % repeat themselves; "
        f"{found.images / found.seconds:.1f} images per second",
        f"{found.images} images, {found.references / found.images:.2f} references each, data {found.fingerprint}; "
        f"length ratio {found.model.bleu.length_ratio:.3f}",
        f"decoding: {decoding(generation)}",
        "words: lower case, Penn Treebank, no punctuation; no smoothing; scale 0 to 100",
    ]
    return "\n".join(lines)


def decoding(generation: GenerationConfig) -> str:
    """Every setting that differs from plain greedy, and the length."""
    from captioner.config import GenerationConfig, to_dict

    plain = to_dict(GenerationConfig())
    told = {name: value for name, value in to_dict(generation).items() if name != "calibration"}
    told = {name: value for name, value in told.items() if value != plain[name] or name in ("beams", "max_tokens")}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())


def figures(found: Evaluation) -> dict[str, Any]:
    """The report for machines."""
    from captioner.config import to_dict

    keys = ("bleu1", "bleu2", "bleu3", "bleu4", "cider_d")
    return {
        "model": dict(zip(keys, _row(found.model), strict=True)),
        "floor": dict(zip(keys, _row(found.floor), strict=True)),
        "shuffled": dict(zip(keys, _row(found.shuffled), strict=True)),
        "perplexity": found.perplexity,
        "confidence_rank": found.confidence_rank,
        "calibration_error": found.calibration_error,
        "diversity": to_dict(found.diversity),
        "seconds": found.seconds,
        "images": found.images,
        "references": found.references,
        "length_ratio": found.model.bleu.length_ratio,
        "data": found.fingerprint,
        "generation": to_dict(found.generation),
        "unreadable": list(found.problems),
    }


def _row(scores: Scores) -> tuple[float, ...]:
    b = scores.bleu
    return b.bleu1, b.bleu2, b.bleu3, b.bleu4, scores.cider_d
