"""Fine-tune a captioner on your own images.

Starts from ``--model`` and keeps its architecture, tokenizer and preprocessing. The best weights on held-out images are
kept, those of the start among them. With ``--recipe lora``, or ``--set adapter.method=lora`` (or ``adalora`` or
``prefix``), a small adapter alone is trained and saved; ``captioner convert DIR OUT --merge`` makes it whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.cli.options import add_training
from captioner.cli.train import complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument("--model", metavar="M", help="checkpoint directory or hub id (default: the model that ships)")
    parser.add_argument(
        "--recipe",
        default="finetune",
        metavar="NAME",
        help="shipped recipe or .toml file (default: finetune; lora trains a small adapter alone)",
    )


def run(args: argparse.Namespace) -> int:
    from captioner.errors import ConfigError
    from captioner.training.recipe import load_recipe

    for setting in args.settings:
        if setting.startswith(("vision", "decoder", "preprocess", "tokenizer", "generation")):
            raise ConfigError(
                f"--set {setting}: a fine-tuned model keeps what it is; use `captioner train` for another"
            )
    recipe = load_recipe(args.recipe, args.settings)

    from captioner.checkpoint import load
    from captioner.training.run import train
    from captioner.training.setup import read_data

    start = load(args.model)
    data = read_data(args.data, held_out=args.held_out, validation_images=recipe.validation_images, report=complain)
    out = Path(args.out or f"runs/{Path(args.recipe).stem}")
    print(train(recipe, data, out, start=start, resume=args.resume, report=complain))
    return 0
