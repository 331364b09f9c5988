"""Fine-tune a captioner on your own images.

Starts from ``--model`` and keeps its architecture, tokenizer and preprocessing. The number of images sets the epochs
and the learning rate. The run saves the weights with the best score on held-out images; the initial weights compete
too. Prints scores and captions before and after on stderr, and writes them to ``report.md``. ``--recipe lora``, or
``--set adapter.method=lora`` (or ``adalora`` or ``prefix``), trains and saves only a small adapter; ``captioner convert
DIR OUT --merge`` merges it into its base.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.arguments import argument
from captioner.cli.options import MODEL, is_rank_zero, print_status, require_readers
from captioner.cli.output import print_text
from captioner.cli.training import Training, fit_recipe, training_data

if TYPE_CHECKING:
    from captioner.training.tasks import Data


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner finetune`."""

    training: Training
    model: str | None = field(default=None, metadata=MODEL)
    language: str | None = field(
        default=None,
        metadata=argument(
            help="default language of the fine-tuned captioner, if the model writes several", metavar="LANG"
        ),
    )
    recipe: str = field(
        default="finetune",
        metadata=argument(
            help="shipped recipe or .toml file (default: %(default)s; lora trains only a small adapter)",
            metavar="NAME",
        ),
    )


def run(options: Options) -> int:
    from captioner.errors import ConfigError, require
    from captioner.training.packages import require_training

    require_training()
    from captioner.training.recipe import load_recipe

    training = options.training
    for setting in training.settings:
        if setting.startswith(("vision", "decoder", "preprocess", "tokenizer", "generation")):
            raise ConfigError(
                f"--set {setting}: fine-tuning keeps the model's architecture and preprocessing; use `captioner train`"
            )
    recipe = load_recipe(options.recipe, training.settings)  # raises for a wrong setting before torch is imported

    if recipe.adapter is not None and recipe.adapter.method != "prefix":
        require("peft", "finetune", "a LoRA or AdaLoRA adapter")
    require_readers(training.data)

    from captioner.checkpoint import load
    from captioner.training.report import data_warnings
    from captioner.training.run import check_out, train

    out = training.folder(options.recipe)
    check_out(out, resume=training.resume)
    start = load(options.model)
    if options.language:
        start.config.text.speaking(options.language)  # raises for a language that the captioner does not write
        start.generation = replace(start.generation, language=options.language)
    data = training_data(training, recipe)
    recipe = fit_recipe(options.recipe, training.settings, len(data.train))
    doubts = data_warnings(data)
    for doubt in doubts:
        print_status(f"warning: {doubt}")
    best = train(recipe, data, out, start=start, resume=training.resume, report=print_status)
    if is_rank_zero():
        _report(options.model, best, data, doubts)
        print_text(str(best))
    return 0


def _report(model: str | None, best: Path, data: Data, doubts: list[str]) -> None:
    """Print and save the report of before and after. Errors only print a line: the checkpoint is already saved."""
    from captioner.checkpoint import load
    from captioner.errors import CaptionerError
    from captioner.pipelines import choose_device
    from captioner.training.report import compare, result_warnings, text

    try:
        before, after = (load(source, device=choose_device()) for source in (model, best))
        comparison = compare(before, after, data.validation)
        position = after.training.get("position")
        improved = isinstance(position, dict) and bool(position.get("total_step"))
        doubts = [*doubts, *result_warnings(comparison, improved=improved)]
        report = "\n\n".join([text(comparison), *(f"warning: {doubt}" for doubt in doubts)])
        print_status(f"\n{report}\n")
        (best.parent / "report.md").write_text(report + "\n", encoding="utf-8")
    except (CaptionerError, OSError) as error:
        print_status(f"no report: {error}")
