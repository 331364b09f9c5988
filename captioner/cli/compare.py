"""Compare two captioners, or two prediction files, on the same images."""

from __future__ import annotations

import argparse
import json

from captioner.cli.judging import add_judging, images_of, is_predictions, judge_file, judge_model
from captioner.cli.options import add_generation, add_model, generation_options
from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="checkpoint directory, hub id, 'shipped', or prediction file")
    parser.add_argument("second", metavar="B", help="the same; differences are B - A")
    add_judging(parser)
    parser.add_argument("--json", action="store_true", help="print the scores as one JSON object")
    add_model(parser, choose=False)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.errors import DataError
    from captioner.files import SHIPPED_NAME

    generation_options(args)
    images = images_of(args)
    names = (args.first, args.second)
    evaluations = [
        judge_file(name, images, args)
        if is_predictions(name)
        else judge_model(None if name == SHIPPED_NAME else name, images, args)
        for name in names
    ]
    if evaluations[0].judgement.words != evaluations[1].judgement.words:
        raise DataError("the two captioners split words differently; set --words to evaluate both alike")

    from captioner.evaluation.compare import compare, figures, markdown

    comparison = compare(evaluations[0].judgement, evaluations[1].judgement)
    print_text(json.dumps(figures(comparison)) if args.json else markdown(comparison, *names))
    return 1 if any(evaluation.problems for evaluation in evaluations) else 0
