"""Options of train and finetune, and the data and recipe that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.arguments import argument
from captioner.cli.options import Reading, print_status

if TYPE_CHECKING:
    from captioner.training.recipe import Recipe
    from captioner.training.tasks import Data


@dataclass(frozen=True, kw_only=True)
class Training:
    """The options that train and finetune share."""

    data: tuple[str, ...] = field(
        metadata=argument(help="folders or files of captioned images", metavar="DATA", nargs="+")
    )
    repeat: tuple[float, ...] = field(
        default=(),
        metadata=argument(
            help="times that an epoch shows the images of each --data, on average, such as 2 0.5 (default: 1 each)",
            metavar="TIMES",
            nargs="+",
        ),
    )
    reading: Reading
    accepted: bool = field(
        default=False,
        metadata=argument(help="only captions that people accepted or edited in `captioner review`"),
    )
    held_out: str | None = field(
        default=None,
        metadata=argument(help="names of the training images to hold out, one per line", metavar="FILE"),
    )
    settings: tuple[str, ...] = field(
        default=(),
        metadata=argument(
            flag="--set",
            help="override a setting of the recipe, such as stages.0.lr=3e-4; repeatable",
            metavar="KEY=VALUE",
        ),
    )
    out: str | None = field(
        default=None, metadata=argument(help="output folder of the run (default: runs/NAME)", metavar="DIR")
    )
    resume: bool = field(default=False, metadata=argument(help="resume the run in --out"))

    def folder(self, recipe: str) -> Path:
        """Return the output folder of a run of a recipe."""
        return Path(self.out or f"runs/{Path(recipe).stem}")


def training_data(training: Training, recipe: Recipe, *, text: Sequence[str] = ()) -> Data:
    """Read the data for a run of ``recipe``."""
    from captioner.training.setup import read_data

    return read_data(
        training.data,
        text=text,
        repeats=training.repeat,
        held_out=training.held_out,
        sidecars=training.reading.sidecars,
        validation_images=recipe.validation_images,
        outside=training.reading.outside,
        accepted=training.accepted,
        report=print_status,
    )


def fit_recipe(recipe_name: str, settings: Sequence[str], images: int) -> Recipe:
    """Return a recipe, changed by ``settings`` and fitted to the number of images; print what that changes."""
    from captioner.data.messages import counted
    from captioner.training.recipe import load_recipe

    plain, recipe = (load_recipe(recipe_name, settings, images=known) for known in (None, images))
    for number, (stage, before) in enumerate(zip(recipe.stages, plain.stages, strict=True)):
        if stage != before:
            print_status(
                f"a set of {counted(images, 'image')}: epochs {stage.epochs}, batch_size {stage.batch_size}, "
                f"lr {stage.lr:g}, patience {stage.patience} (from the recipe's table of sizes; "
                f"--set stages.{number}.epochs=N and the like override it)"
            )
    return recipe
