"""Fine-tune a captioner on your own images.

Starts from ``--model`` and keeps its architecture, tokenizer and preprocessing. The number of images sets the epochs
and the learning rate. Of the weights, including those at the start, the best ones on held-out images are saved. Prints
scores and captions before and after on stderr, and writes them to ``report.md``. ``--recipe lora``, or ``--set
adapter.method=lora`` (or ``adalora`` or ``prefix``), trains and saves only a small adapter; ``captioner convert DIR OUT
--merge`` merges it into its base.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import complain, leads, require, require_readers
from captioner.cli.training import add_training, fitted, training_data

if TYPE_CHECKING:
    from captioner.training.tasks import Data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument("--model", metavar="M", help="checkpoint directory or hub id (default: the model that ships)")
    parser.add_argument(
        "--language", metavar="LANG", help="default language of the fine-tuned captioner, if the model writes several"
    )
    parser.add_argument(
        "--recipe",
        default="finetune",
        metavar="NAME",
        help="shipped recipe or .toml file (default: finetune; lora trains only a small adapter)",
    )


def run(args: argparse.Namespace) -> int:
    from captioner.errors import ConfigError
    from captioner.training.recipe import load_recipe

    for setting in args.settings:
        if setting.startswith(("vision", "decoder", "preprocess", "tokenizer", "generation")):
            raise ConfigError(
                f"--set {setting}: fine-tuning keeps the model's architecture and preprocessing; use `captioner train`"
            )
    recipe = load_recipe(args.recipe, args.settings)  # raises for a wrong setting before torch is imported

    if recipe.adapter is not None and recipe.adapter.method != "prefix":
        require("peft", "finetune", "a LoRA or AdaLoRA adapter")
    require_readers(args.data)

    from captioner.checkpoint import load
    from captioner.training.report import data_warnings
    from captioner.training.run import check_out, train

    out = Path(args.out or f"runs/{Path(args.recipe).stem}")
    check_out(out, resume=args.resume)
    start = load(args.model)
    if args.language:
        start.config.text.speaking(args.language)  # raises for a language that the captioner does not write
        start.generation = replace(start.generation, language=args.language)
    data = training_data(args, recipe)
    recipe = fitted(args, len(data.train))
    doubts = data_warnings(data)
    for doubt in doubts:
        complain(f"warning: {doubt}")
    best = train(recipe, data, out, start=start, resume=args.resume, report=complain)
    if leads():
        _report(args.model, best, data, doubts)
        print(best)
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
        complain(f"\n{report}\n")
        (best.parent / "report.md").write_text(report + "\n", encoding="utf-8")
    except (CaptionerError, OSError) as error:
        complain(f"no report: {error}")
