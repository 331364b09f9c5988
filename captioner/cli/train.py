"""Train a captioner on image-caption pairs.

``--data`` names folders or files; their training splits are joined. ``--out`` receives the results: best/, last/, the
log and the state to resume from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.cli.options import complain, leads, require_readers
from captioner.cli.training import add_training, fitted, training_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="FILE", help="text-only training data, a caption per line"
    )
    parser.add_argument(
        "--recipe", default="default", metavar="NAME", help="shipped recipe or .toml file (default: default)"
    )


def run(args: argparse.Namespace) -> int:
    from captioner.training.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.settings)  # raises for a wrong setting before torch is imported
    require_readers(args.data)

    from captioner.training.run import check_out, train

    out = Path(args.out or f"runs/{Path(args.recipe).stem}")
    check_out(out, resume=args.resume)
    data = training_data(args, recipe, text=args.text)
    best = train(fitted(args, len(data.train)), data, out, resume=args.resume, report=complain)
    if leads():
        print(best)
    return 0
