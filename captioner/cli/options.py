"""Options that several verbs share, and how names are printed."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --beams and --batch-size: what every verb that captions takes."""
    parser.add_argument("--model", metavar="M", help="checkpoint directory or hub id (default: the model that ships)")
    parser.add_argument("--device", help="as torch names it: cpu, cuda, cuda:1, mps (default: the fastest there is)")
    parser.add_argument(
        "--beams", type=positive, metavar="N", help="beams of the search, 1 is greedy (default: the model's)"
    )
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images at once (default: 16)")


def add_training(parser: argparse.ArgumentParser) -> None:
    """What train and finetune share."""
    parser.add_argument("--data", required=True, nargs="+", metavar="DATA", help="folders or files of captioned images")
    parser.add_argument("--held-out", metavar="FILE", help="names of the training images to hold out, one a line")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting of the recipe, such as stages.0.lr=3e-4; may be repeated",
    )
    parser.add_argument("--out", metavar="DIR", help="where the run goes (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
