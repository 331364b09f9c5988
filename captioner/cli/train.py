"""Train a captioner on image-caption pairs.

``--data`` names folders or files; their training splits are joined. Results lie in ``--out``: best/, last/, the log and
the state to resume from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.cli.options import add_training, complain, fitted, leads, require_readers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="FILE", help="text files to learn language from, a caption a line"
    )
    parser.add_argument(
        "--recipe", default="default", metavar="NAME", help="shipped recipe or .toml file (default: default)"
    )


def run(args: argparse.Namespace) -> int:
    from captioner.training.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.settings)  # a slip in a setting is said before torch is imported
    require_readers(args.data)

    from captioner.training.run import check_out, train
    from captioner.training.setup import read_data

    out = Path(args.out or f"runs/{Path(args.recipe).stem}")
    check_out(out, resume=args.resume)
    data = read_data(
        args.data,
        text=args.text,
        held_out=args.held_out,
        sidecars=args.sidecars,
        validation_images=recipe.validation_images,
        outside=args.outside,
        report=complain,
    )
    best = train(fitted(args, len(data.train)), data, out, resume=args.resume, report=complain)
    if leads():
        print(best)
    return 0
