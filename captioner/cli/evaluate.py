"""Evaluate a captioner, or a prediction file, on a dataset: scores with intervals, a baseline and a control."""

from __future__ import annotations

import argparse
import json

from captioner.cli.judging import add_judging, images_of, judge_file, judge_model, probe_model
from captioner.cli.options import add_generation, add_model, generation_options
from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_judging(parser)
    parser.add_argument(
        "--predictions", metavar="FILE", help="captions to evaluate instead of a model: COCO results, JSON lines, CSV"
    )
    parser.add_argument(
        "--partial", action="store_true", help="with --predictions: evaluate only the images with a prediction"
    )
    parser.add_argument("--aspect", choices=("squash", "crop", "pad"), help="aspect rule instead of the model's")
    parser.add_argument("--json", action="store_true", help="print the scores as one JSON object")
    parser.add_argument("--per-image", metavar="FILE", help="JSON lines file: caption and scores of every image")
    parser.add_argument("--report", metavar="FILE.html", help="HTML report: photos, plots and confusions")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="probes instead of scores: robustness to small changes of photos, and bias about people",
    )
    add_model(parser)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.errors import UsageError

    if args.predictions and (args.model or args.aspect or generation_options(args)):
        raise UsageError("--predictions needs no model; leave out --model, --aspect and the options for generation")
    if args.partial and not args.predictions:
        raise UsageError("--partial applies to a prediction file; add --predictions FILE")
    generation_options(args)  # raises for contradictory options before data is read
    if args.probe and (args.predictions or args.per_image or args.report):
        raise UsageError("--probe needs a model and prints tables; leave out --predictions, --per-image and --report")
    images = images_of(args)
    if args.probe:
        from captioner.config import to_dict
        from captioner.evaluation import probe

        probed = probe_model(args.model, images, args)
        print_text(json.dumps(to_dict(probed)) if args.json else probe.markdown(probed))
        return 1 if probed.problems else 0
    evaluation = (
        judge_file(args.predictions, images, args) if args.predictions else judge_model(args.model, images, args)
    )

    from captioner.evaluation.tables import figures, markdown, per_image

    title = f"{args.predictions or args.model or 'shipped model'} on {args.split}"
    if args.per_image:
        records = (json.dumps(record, ensure_ascii=False) for record in per_image(evaluation))
        _write(args.per_image, "\n".join(records) + "\n")
    if args.report:
        from captioner.evaluation.report.curves import log_of
        from captioner.evaluation.report.page import page

        _write(args.report, page(evaluation, title, log=log_of(args.model)))
    print_text(json.dumps(figures(evaluation)) if args.json else markdown(evaluation, title))
    return 1 if evaluation.problems else 0


def _write(path: str, text: str) -> None:
    """Write ``text`` in UTF-8, with lone surrogates (from file names) escaped."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
