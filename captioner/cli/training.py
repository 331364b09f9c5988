"""Options of train and finetune, and the data and recipe that they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioner.cli.options import add_outside, add_sidecars, complain

if TYPE_CHECKING:
    from captioner.training.recipe import Recipe
    from captioner.training.tasks import Data


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options that train and finetune share."""
    parser.add_argument("--data", required=True, nargs="+", metavar="DATA", help="folders or files of captioned images")
    add_outside(parser)
    add_sidecars(parser)
    parser.add_argument("--held-out", metavar="FILE", help="names of the training images to hold out, one per line")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override a setting of the recipe, such as stages.0.lr=3e-4; repeatable",
    )
    parser.add_argument("--out", metavar="DIR", help="output folder of the run (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="resume the run in --out")


def training_data(args: argparse.Namespace, recipe: Recipe, *, text: Sequence[str] = ()) -> Data:
    """Read the data of the options of ``add_training``, for a run of ``recipe``."""
    from captioner.training.setup import read_data

    return read_data(
        args.data,
        text=text,
        held_out=args.held_out,
        sidecars=args.sidecars,
        validation_images=recipe.validation_images,
        outside=args.outside,
        report=complain,
    )


def fitted(args: argparse.Namespace, images: int) -> Recipe:
    """Return the recipe of the options of ``add_training``, fitted to the number of images; print what that changes."""
    from captioner.data.messages import counted
    from captioner.training.recipe import load_recipe

    plain, recipe = (load_recipe(args.recipe, args.settings, images=known) for known in (None, images))
    for number, (stage, before) in enumerate(zip(recipe.stages, plain.stages, strict=True)):
        if stage != before:
            complain(
                f"a set of {counted(images, 'image')}: epochs {stage.epochs}, batch_size {stage.batch_size}, "
                f"lr {stage.lr:g}, patience {stage.patience} (from the recipe's table of sizes; "
                f"--set stages.{number}.epochs=N and the like override it)"
            )
    return recipe
