"""Compare two captioners, or two files of captions, on the same images."""

from __future__ import annotations

import argparse
import json

from captioner.cli.judging import add_judging, images_of, is_predictions, judge_file, judge_model
from captioner.cli.options import add_generation, add_model, generation_options
from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="checkpoint directory, hub id, 'shipped', or file of predictions")
    parser.add_argument("second", metavar="B", help="the same; differences are B less A")
    add_judging(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    add_model(parser, choose=False)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.errors import DataError
    from captioner.files import SHIPPED_NAME

    generation_options(args)
    images = images_of(args)
    names = (args.first, args.second)
    found = [
        judge_file(name, images, args)
        if is_predictions(name)
        else judge_model(None if name == SHIPPED_NAME else name, images, args)
        for name in names
    ]
    if found[0].judgement.words != found[1].judgement.words:
        raise DataError("the two count words differently; say --words to judge both alike")

    from captioner.evaluation.compare import compare, figures, markdown

    comparison = compare(found[0].judgement, found[1].judgement)
    print_text(json.dumps(figures(comparison)) if args.json else markdown(comparison, *names))
    return 1 if any(one.problems for one in found) else 0
