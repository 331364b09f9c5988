"""Train a captioner on image-caption pairs.

``--data`` names folders or files; their training splits are joined. ``--out`` receives the results: best/, last/, the
log and the state to resume from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.cli.arguments import argument
from captioner.cli.options import is_rank_zero, print_status, require_readers
from captioner.cli.output import print_text
from captioner.cli.training import Training, fit_recipe, training_data


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner train`."""

    training: Training
    text: tuple[str, ...] = field(
        default=(),
        metadata=argument(help="text-only training data, a caption per line", metavar="FILE", nargs="+"),
    )
    recipe: str = field(
        default="default",
        metadata=argument(help="shipped recipe or .toml file (default: %(default)s)", metavar="NAME"),
    )


def run(options: Options) -> int:
    from captioner.training.packages import require_training

    require_training()
    from captioner.training.recipe import load_recipe

    training = options.training
    recipe = load_recipe(options.recipe, training.settings)  # raises for a wrong setting before torch is imported
    require_readers(training.data)

    from captioner.training.run import check_out, train

    out = training.folder(options.recipe)
    check_out(out, resume=training.resume)
    data = training_data(training, recipe, text=options.text)
    recipe = fit_recipe(options.recipe, training.settings, len(data.train))
    best = train(recipe, data, out, resume=training.resume, report=print_status)
    if is_rank_zero():
        print_text(str(best))
    return 0
